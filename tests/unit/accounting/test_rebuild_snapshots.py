"""What a shard's snapshots say: the newest of each key, where a fold has to begin, and which balances count."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from accounting.rebuild.chunks import balances_of, chunks, period_end_ms
from accounting.rebuild.fold import Added
from accounting.rebuild.snapshots import Balance, HourPart, ShardSnapshots
from schemas.events import ShardCheckpoint, TableSnapshot
from schemas.outgoing import Outgoing, checkpoint_record, table_record, tombstone_record

_SHARD = 3
_MONTH = "b:org/tokens:2026-11"
_DECEMBER_MS = 1_796_083_200_000
"""2026-12-01 in UTC."""


@dataclass(frozen=True)
class _Read:
    """A record as a consumer hands it out."""

    key: bytes
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]
    offset: int
    timestamp: int = 0


def _taken(*records: Outgoing) -> ShardSnapshots:
    snapshots = ShardSnapshots(_SHARD)
    for place, each in enumerate(records):
        snapshots.take(_Read(each.key, each.value, tuple(each.headers), place), _SHARD)
    return snapshots


def _balance(offset: int, settled: int, **more: int) -> Outgoing:
    values = {_MONTH: settled} | {f"{_MONTH}\t{name}": amount for name, amount in more.items()}
    return table_record(
        TableSnapshot(
            org="acme",
            table="balances",
            partition=_SHARD,
            offset=offset,
            values=values,
            taken_at_ms=1,
        )
    )


def _hour(offset: int, part: int = 0, parts: int = 1) -> Outgoing:
    return table_record(
        TableSnapshot(
            org="acme",
            table="usage",
            hour="2026-11-21T12",
            partition=_SHARD,
            offset=offset,
            values={"k\tu\tm\tb\trequests": 1},
            taken_at_ms=1,
            part=part,
            parts=parts,
        )
    )


def _checkpoint(offset: int) -> Outgoing:
    return checkpoint_record(
        ShardCheckpoint(shard=_SHARD, offset=offset, appended_at_ms=5, epoch=1, taken_at_ms=6)
    )


def test_the_newest_record_of_a_key_counts() -> None:
    """And a tombstone forgets it."""
    snapshots = _taken(_balance(5, 10), _balance(8, 17, over=2, late=3))
    assert snapshots.balances == {("acme", _MONTH): Balance(17, 2, 3, 8)}
    forgotten = _taken(_balance(5, 10), tombstone_record(_SHARD, f"acme|{_MONTH}"))
    assert not forgotten.balances


def test_the_fold_begins_above_the_checkpoint() -> None:
    """But not above a table that was written after it although it was older; without one, at the beginning."""
    assert _taken(_balance(5, 10)).stands_for == -1
    assert _taken(_balance(5, 10), _checkpoint(9)).stands_for == 9
    assert _taken(_balance(5, 10), _checkpoint(9), _balance(12, 30)).stands_for == 9
    assert _taken(_balance(5, 10), _checkpoint(9), _hour(7)).stands_for == 7


def test_an_hour_is_known_by_its_records_and_offsets() -> None:
    """Of one that was split anew the newest split of which every part is there."""
    table = ("acme", "2026-11-21T12")
    assert _taken(_hour(5), _hour(6)).hours() == {table: (HourPart(6, _SHARD, 1),)}
    split = _taken(_hour(5), _hour(7, 0, 2), _hour(8, 1, 2))
    assert split.hours() == {table: (HourPart(7, _SHARD, 1), HourPart(8, _SHARD, 2))}
    assert split.start_of_hours().offsets[table] == (7, 8)
    assert _taken(_hour(5), _hour(7, 0, 2)).hours() == {table: (HourPart(5, _SHARD, 0),)}


def test_tables_of_other_shards_are_left_alone() -> None:
    """Versions before this one put them into whatever partition their key chose."""
    foreign = table_record(
        TableSnapshot(
            org="acme", table="balances", partition=1, offset=4, values={_MONTH: 9}, taken_at_ms=1
        )
    )
    assert not _taken(foreign).balances


def test_hours_of_other_shards_are_left_alone_where_their_partitions_are_read() -> None:
    """As they are until a shard has a checkpoint; they would be booked in every shard."""
    hour, snapshots = _hour(5), ShardSnapshots(_SHARD)
    snapshots.take(_Read(hour.key, hour.value, tuple(hour.headers), 0), _SHARD + 1)

    assert not snapshots.hours()


def test_a_balance_is_snapshot_and_fold() -> None:
    """One whose period ended long ago is left out, and says when it ends else."""
    snapshots = _taken(_balance(5, 10, over=2, late=1))
    changes = {("acme", _MONTH): Added(-1, settled=7, late=1, changed=9)}
    (balance,) = balances_of(snapshots, changes, _DECEMBER_MS)
    assert (balance.settled, balance.over, balance.late) == (17, 2, 2)
    assert (balance.end_ms, balance.changed) == (_DECEMBER_MS, 9)
    assert not list(balances_of(snapshots, changes, _DECEMBER_MS + 1))


@pytest.mark.parametrize(
    ("suffix", "end_ms"),
    [
        (_MONTH, _DECEMBER_MS),
        ("b:org/tokens:2026-11-30", _DECEMBER_MS),
        ("b:org/tokens:total", None),
        ("b:org/tokens:2026-99", None),
        ("b:org/tokens:2026-99-99", None),
    ],
)
def test_the_end_of_a_period_is_in_its_name(suffix: str, end_ms: int | None) -> None:
    """Exclusive, in UTC; whatever is no period never ends."""
    assert period_end_ms(suffix) == end_ms


def test_pieces_are_the_whole() -> None:
    """In order, none above its size."""
    assert list(chunks(range(5), 2)) == [(0, 1), (2, 3), (4,)]
