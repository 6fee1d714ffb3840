"""Tables that were read, as records: absolute values, the offset they stand for, and when they are of no use."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from accounting.table_records import forget_at_ms, snapshots_of
from schemas.events import TableSnapshot
from schemas.ledger.answers import Snapshot
from schemas.snapshots import key_of
from schemas.times import DAY_MS
from tests.support.events import NOW_MS

_READ = Snapshot(
    offsets={3: 99, 4: 7},
    usage={"2023-11-14T22": {"row\trequests": 1}, "2023-11-14T23": {}},
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
    """Balances as the log booked them. What is empty has left the ledger: it must not replace what was."""
    records = snapshots_of("acme", 3, _READ, 7, NOW_MS)

    assert records == [
        _snapshot("usage", "2023-11-14T22", 99, {"row\trequests": 1}),
        _snapshot(
            "balances", None, 99, {"b:org/tokens:2023-11": 46, "b:org/tokens:2023-11\tlate": 2}
        ),
    ]
    assert [key_of(record) for record in records] == [
        "acme|u:2023-11-14T22",
        "acme|b:org/tokens:2023-11",
    ]


@pytest.mark.parametrize(("through", "offset"), [(-1, 99), (98, 99), (1_000, 1_000)])
def test_a_table_stands_for_whatever_is_booked_of_its_shard(through: int, offset: int) -> None:
    """Of an organization that was quiet since, too: then nothing was added to it."""
    records = snapshots_of("acme", 3, _READ, through, NOW_MS)

    assert {record.offset for record in records} == {offset}


def test_a_table_of_a_shard_that_was_made_anew_stands_for_what_was_folded() -> None:
    """Or the next rebuild would add that once more."""
    read = Snapshot(
        offsets={}, usage={"2023-11-14T22": {"r\tx": 1}}, balances={}, totals={}, folded=50
    )

    assert [record.offset for record in snapshots_of("acme", 3, read, -1, NOW_MS)] == [50]


def test_a_shard_that_booked_nothing_stands_before_its_first_offset() -> None:
    """So a rebuild folds all of it."""
    read = Snapshot(offsets={}, usage={"2023-11-14T22": {"r\tx": 1}}, balances={}, totals={})

    assert [record.offset for record in snapshots_of("acme", 3, read, -1, NOW_MS)] == [-1]


@pytest.mark.parametrize(
    ("suffix", "end"),
    [
        ("u:2023-11-14T22", datetime(2023, 11, 14, 23, tzinfo=UTC)),
        ("b:org/tokens:2023-12", datetime(2024, 1, 1, tzinfo=UTC)),
        ("b:user/a:b/requests:2024-02-29", datetime(2024, 3, 1, tzinfo=UTC)),
    ],
)
def test_a_table_is_forgotten_with_the_ledger(suffix: str, end: datetime) -> None:
    """So long after its hour or period."""
    assert forget_at_ms(suffix, 40 * DAY_MS) == int(end.timestamp()) * 1_000 + 40 * DAY_MS


def test_a_balance_without_a_period_is_never_forgotten() -> None:
    """What was spent of it stays spent."""
    assert forget_at_ms("b:key/k/nano_usd:total", 40 * DAY_MS) is None
