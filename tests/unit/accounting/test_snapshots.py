"""Snapshots of tables: absolute values and the offset they stand for."""

from __future__ import annotations

from accounting.snapshots import snapshots_of
from schemas.events import TableSnapshot
from schemas.ledger.answers import Snapshot
from schemas.snapshots import key_of
from tests.support.events import NOW_MS

_READ = Snapshot(
    offsets={3: 99, 4: 7},
    usage={"2023-11-14T22": {"row|requests": 1}, "2023-11-14T23": {}},
    balances={"b:org/tokens:2023-11": {"settled": 50, "reserved": 5}},
    totals={"b:org/tokens:2023-11": {"settled": 46, "late": 2}, "b:org/nano_usd:2023-11": {}},
)


def _snapshot(table: str, hour: str | None, offset: int, values: dict[str, int]) -> TableSnapshot:
    return TableSnapshot(
        org="acme",
        table=table,
        hour=hour,
        partition=3,
        offset=offset,
        values=values,
        taken_at_ms=NOW_MS,
    )


def test_every_hour_and_every_balance_become_a_record() -> None:
    """Balances as the log booked them, at the offset of their own partition."""
    assert snapshots_of("acme", 3, _READ, NOW_MS) == [
        _snapshot("usage", "2023-11-14T22", 99, {"row|requests": 1}),
        _snapshot("usage", "2023-11-14T23", 99, {}),
        _snapshot(
            "balances", None, 99, {"b:org/tokens:2023-11": 46, "b:org/tokens:2023-11\tlate": 2}
        ),
        _snapshot("balances", None, 99, {"b:org/nano_usd:2023-11": 0}),
    ]


def test_a_partition_that_booked_nothing_stands_before_its_first_offset() -> None:
    """So a rebuild folds all of it."""
    read = Snapshot(offsets={}, usage={"2023-11-14T22": {}}, balances={}, totals={})

    assert snapshots_of("acme", 3, read, NOW_MS) == [_snapshot("usage", "2023-11-14T22", -1, {})]


def test_every_hour_and_every_balance_has_a_key_of_its_own() -> None:
    """In a compacted topic a record replaces the one before of its key, and nothing else."""
    keys = [key_of(snapshot) for snapshot in snapshots_of("acme", 3, _READ, NOW_MS)]

    assert keys == [
        "acme|u:2023-11-14T22",
        "acme|u:2023-11-14T23",
        "acme|b:org/tokens:2023-11",
        "acme|b:org/nano_usd:2023-11",
    ]
