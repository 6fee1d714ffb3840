"""The fold of a shard's snapshots: the newest of each key, and where its tail begins."""

from __future__ import annotations

from typing import cast

import msgspec

from schemas.codec import encode
from schemas.events import KeptRequest, ShardCheckpoint, TableSnapshot
from schemas.snapshot_fold import BalanceTotal, SnapshotFold
from schemas.snapshots import key_of, part_of, table_key
from tests.support.event_samples import SAMPLES

_KEPT = cast("KeptRequest", SAMPLES["KeptRequest"])
_CHECKPOINT = cast("ShardCheckpoint", SAMPLES["ShardCheckpoint"])
_BALANCE = "b:org/tokens:2023-11"


def _take(fold: SnapshotFold, *events: TableSnapshot | KeptRequest | ShardCheckpoint) -> None:
    for event in events:
        fold.take(key_of(event).encode(), encode(event))


def _hour(
    offset: int, values: dict[str, int], part: int = 0, parts: int = 1, shard: int = 3
) -> TableSnapshot:
    return TableSnapshot(
        org="acme",
        table="usage",
        hour="2023-11-14T22",
        partition=shard,
        offset=offset,
        values=values,
        taken_at_ms=1,
        part=part,
        parts=parts,
    )


def _balance(offset: int, settled: int, **beside: int) -> TableSnapshot:
    values = {_BALANCE: settled} | {
        f"{_BALANCE}\t{name}": amount for name, amount in beside.items()
    }
    return msgspec.structs.replace(_hour(offset, values), table="balances", hour=None)


def test_the_newest_record_of_a_key_counts() -> None:
    """With what stands beside the sum, and its offset."""
    fold = SnapshotFold(3)
    _take(fold, _balance(10, 5), _balance(12, 9, over=1, late=2))

    assert fold.balances == {("acme", _BALANCE): BalanceTotal(9, 1, 2, 12)}


def test_records_of_another_shard_are_none_of_it() -> None:
    """Versions before this one wrote tables of a shard to whatever partition their key chose."""
    fold = SnapshotFold(3)
    _take(fold, _hour(10, {"r\trequests": 1}, shard=2))
    _take(fold, msgspec.structs.replace(_CHECKPOINT, shard=2))

    assert not fold.usage
    assert fold.checkpoint is None


def test_the_tail_begins_above_the_checkpoint() -> None:
    """Everything that changed up to it stands before it; without one, all of the log is read."""
    fold = SnapshotFold(3)
    assert fold.tail_from == 0
    _take(fold, _balance(7, 5), _CHECKPOINT)

    assert fold.tail_from == _CHECKPOINT.offset + 1


def test_the_tail_begins_above_an_older_table_that_was_written_after_the_checkpoint() -> None:
    """By an owner that slept while another took its place: what it lacks is read again."""
    fold = SnapshotFold(3)
    _take(fold, _CHECKPOINT, _balance(_CHECKPOINT.offset + 5, 9), _balance(7, 5))

    assert fold.tail_from == 8


def test_a_split_table_is_whole_when_all_its_parts_are_there() -> None:
    """Until then the split before it counts; a row is as old as its part."""
    rows = [f"key_{number}" for number in range(8)]
    halves: list[dict[str, int]] = [{}, {}]
    for row in rows:
        halves[part_of(row, 2)][f"{row}\trequests"] = 2
    fold = SnapshotFold(3)
    table = ("acme", "2023-11-14T22")

    _take(fold, _hour(10, {f"{row}\trequests": 1 for row in rows}), _hour(20, halves[0], 0, 2))
    assert fold.usage[table].values() == {f"{row}\trequests": 1 for row in rows}

    _take(fold, _hour(30, halves[1], 1, 2))
    assert fold.usage[table].values() == halves[0] | halves[1]
    for row in rows:
        assert fold.usage[table].is_in(row, 20)
        assert fold.usage[table].is_in(row, 30) == (part_of(row, 2) == 1)


def test_keys_and_jobs_are_kept_until_their_tombstone() -> None:
    """Each by its own key; so are tables."""
    job = msgspec.structs.replace(_KEPT, idempotency_hash=None)
    events = (_KEPT, job, _balance(10, 5), _hour(10, {"r\trequests": 1}))
    fold = SnapshotFold(3)
    _take(fold, *events)
    assert list(fold.keys.values()) == [_KEPT]
    assert list(fold.jobs.values()) == [job]
    assert fold.usage

    for event in events:
        fold.take(key_of(event).encode(), None)

    assert [fold.keys, fold.jobs, fold.balances, dict(fold.usage)] == [{}, {}, {}, {}]


def test_a_part_is_forgotten_alone() -> None:
    """Its split is no longer whole then."""
    fold = SnapshotFold(3)
    _take(fold, _hour(10, {"a\trequests": 1}, 0, 2), _hour(10, {"b\trequests": 1}, 1, 2))
    assert fold.usage

    fold.take(table_key("acme", "u:2023-11-14T22", 1, 2).encode(), None)

    assert not fold.usage
