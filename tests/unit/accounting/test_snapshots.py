"""Rounds of snapshots: what had changed is written, and a checkpoint says so only when it is true."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any, cast

from accounting.booking import Place
from accounting.snapshots import Snapshots
from accounting.tables_log import TablesLog
from schemas.codec import decode
from schemas.events import RecordRef, ShardCheckpoint, TableSnapshot
from schemas.ledger import answers, documents, table_calls
from schemas.outgoing import Outgoing
from schemas.runtime.kafka.produce import ProduceFailed
from schemas.runtime.process.clock import Clock
from schemas.times import FULL, HOUR_MS

_BALANCE = "b:org/tokens:2023-11"
_NOW_MS = 100 * HOUR_MS


@dataclass
class Shard:
    """What the ledger keeps of one shard, page by page."""

    changed_at: dict[tuple[str, str], int] = field(default_factory=dict)
    kept: dict[str, int | None] = field(default_factory=dict)
    outlived_keys: list[str] = field(default_factory=list)
    swept_ms: int = _NOW_MS
    epoch: int = 1
    complete: bool = True
    reads: int = 0
    round: list[tuple[str, str]] = field(default_factory=list)
    at_read: Any = None

    async def changed(self, shard: int, page: table_calls.Page) -> table_calls.Changed:
        """One table a page, in an order of its own."""
        at = int(page.cursor)
        if at == 0:
            self.round = sorted(self.changed_at)
        return table_calls.Changed(
            cursor=str(at + 1 if at + 1 < len(self.round) else 0),
            tables=tuple(
                table_calls.TableAt(org=org, table=table, offset=self.changed_at[org, table])
                for org, table in self.round[at : at + 1]
            ),
            epoch=self.epoch,
            swept_ms=self.swept_ms,
            now_ms=_NOW_MS,
            complete=self.complete,
        )

    async def snapshot(self, document: documents.TakeSnapshot) -> answers.Snapshot:
        self.reads += 1
        if self.at_read is not None:
            self.at_read()
        return answers.Snapshot(
            offsets={3: 40},
            usage={hour: {"k\tu\tm\tb\trequests": 1} for hour in document.hours},
            balances={},
            totals={key: {"settled": 5} for key in document.balances},
            epoch=self.epoch,
        )

    async def written(self, shard: int, document: table_calls.Written) -> answers.Ok:
        for each in document.tables:
            if self.changed_at.get((each.org, each.table), -1) <= each.offset:
                self.changed_at.pop((each.org, each.table), None)
        self.kept |= {each.key: each.until_ms for each in document.kept}
        return answers.Ok()

    async def sweep(self, shard: int, page: table_calls.Page) -> table_calls.Swept:
        for key in self.kept:
            org, _, table = key.partition("|")
            self.changed_at.setdefault((org, table), -1)
        self.swept_ms = _NOW_MS
        return table_calls.Swept(cursor="0")

    async def outlived(
        self, shard: int, document: table_calls.ListOutlived
    ) -> table_calls.Outlived:
        return table_calls.Outlived(keys=tuple(self.outlived_keys))

    async def forgotten(self, shard: int, document: table_calls.Forgotten) -> answers.Ok:
        self.outlived_keys = [key for key in self.outlived_keys if key not in document.keys]
        return answers.Ok()


@dataclass
class Partition:
    """The shard's partition of the log."""

    records: list[Outgoing] = field(default_factory=list)
    is_away: bool = False

    def send(self, record: Outgoing) -> asyncio.Future[RecordRef]:
        sent: asyncio.Future[RecordRef] = asyncio.get_running_loop().create_future()
        if self.is_away:
            sent.set_exception(ProduceFailed("not now"))
            return sent
        self.records.append(record)
        assert record.partition == 3
        sent.set_result(RecordRef(topic=record.topic, partition=3, offset=len(self.records)))
        return sent

    def keys(self) -> list[str]:
        """Of what was written, in order; read once."""
        keys = [record.key.decode() for record in self.records]
        self.records.clear()
        return keys


def _snapshots(shard: Shard, partition: Partition, through: int | None = 41) -> Snapshots:
    return Snapshots(
        ledger=cast("Any", shard),
        log=TablesLog(cast("Any", partition)),
        clock=Clock(),
        times=FULL.ledger,
        owned=lambda: frozenset({3}),
        booked={} if through is None else {3: Place(through, 7)},
    )


def _shard() -> Shard:
    return Shard({("acme", _BALANCE): 40, ("acme", "u:2023-11-14T22"): 40, ("b", _BALANCE): 12})


async def test_what_changed_is_written_and_the_checkpoint_last() -> None:
    """Each at the offset that it contains; once written it is no longer changed."""
    shard, partition = _shard(), Partition()
    await _snapshots(shard, partition).publish()

    events = [decode(record.value) for record in partition.records]
    assert partition.keys() == [
        f"acme|{_BALANCE}",
        "acme|u:2023-11-14T22",
        f"b|{_BALANCE}",
        "3|checkpoint",
    ]
    assert {event.offset for event in events if isinstance(event, TableSnapshot)} == {41}
    checkpoint = events[-1]
    assert isinstance(checkpoint, ShardCheckpoint)
    assert (checkpoint.offset, checkpoint.appended_at_ms, checkpoint.epoch) == (41, 7, 1)
    assert not shard.changed_at
    assert set(shard.kept) == {f"acme|{_BALANCE}", "acme|u:2023-11-14T22", f"b|{_BALANCE}"}


async def test_a_checkpoint_is_said_once() -> None:
    """A quiet shard writes nothing; one that nobody here booked has no checkpoint to say."""
    shard, partition = _shard(), Partition()
    snapshots = _snapshots(shard, partition)
    await snapshots.publish()
    partition.keys()
    await snapshots.publish()
    assert partition.keys() == []

    shard.changed_at = {("acme", _BALANCE): 50}
    await _snapshots(shard, partition, through=None).publish()
    assert partition.keys() == [f"acme|{_BALANCE}"]


async def test_a_table_that_changes_while_it_is_written_stays_changed() -> None:
    """And is written again in the next round, although the checkpoint stands."""
    shard, partition = Shard({("acme", _BALANCE): 40}), Partition()
    shard.at_read = lambda: shard.changed_at.update({("acme", _BALANCE): 44})
    await _snapshots(shard, partition).publish()

    assert partition.keys() == [f"acme|{_BALANCE}", "3|checkpoint"]
    assert shard.changed_at == {("acme", _BALANCE): 44}


async def test_nothing_is_said_to_be_written_that_the_log_does_not_have() -> None:
    """Neither to the ledger nor in a checkpoint; the next round writes it."""
    shard, partition = _shard(), Partition(is_away=True)
    snapshots = _snapshots(shard, partition)
    await snapshots.publish()
    assert (len(shard.changed_at), shard.kept) == (3, {})

    partition.is_away = False
    await snapshots.publish()
    assert partition.keys()[-1] == "3|checkpoint"


async def test_a_shard_that_is_not_whole_yet_writes_nothing() -> None:
    """Hours that a rebuild has not added yet would replace those in the log."""
    shard, partition = _shard(), Partition()
    shard.complete = False
    await _snapshots(shard, partition).publish()

    assert (partition.keys(), shard.reads) == ([], 0)


async def test_a_shard_that_is_made_anew_during_a_round_writes_nothing_more() -> None:
    """What is read then may not be whole."""
    shard, partition = _shard(), Partition()
    shard.at_read = lambda: setattr(shard, "epoch", 2)
    await _snapshots(shard, partition).publish()

    assert partition.keys() == []


async def test_all_tables_are_written_anew_twice_a_day() -> None:
    """Long before the outcomes that made them leave the log; the next round finds them changed."""
    shard, partition = _shard(), Partition()
    snapshots = _snapshots(shard, partition)
    await snapshots.publish()
    partition.keys()

    shard.swept_ms -= 12 * HOUR_MS + 1
    await snapshots.publish()
    await snapshots.publish()

    assert partition.keys() == [f"acme|{_BALANCE}", "acme|u:2023-11-14T22", f"b|{_BALANCE}"]


async def test_where_somebody_else_wrote_too_all_is_written_anew() -> None:
    """It may have been an older table over a newer one; no checkpoint passes it until that is mended."""
    shard, partition = _shard(), Partition()
    snapshots = _snapshots(shard, partition)
    await snapshots.publish()
    stranger = partition.records[0]
    partition.records.append(stranger)

    snapshots.booked[3] = Place(60, 8)
    shard.changed_at = {("b", _BALANCE): 50}
    before = len(partition.records)
    await snapshots.publish()
    assert [r.key.decode() for r in partition.records[before:]] == [f"b|{_BALANCE}"]

    before = len(partition.records)
    await snapshots.publish()
    assert [r.key.decode() for r in partition.records[before:]] == [
        f"acme|{_BALANCE}",
        "acme|u:2023-11-14T22",
        f"b|{_BALANCE}",
        "3|checkpoint",
    ]


async def test_what_is_of_no_use_any_more_is_forgotten_in_the_log() -> None:
    """Keys and jobs, and tables that left the ledger."""
    shard, partition = Shard(outlived_keys=["acme|k:ab", "acme|u:2023-10-01T00"]), Partition()
    await _snapshots(shard, partition, through=None).publish()

    assert [record.value for record in partition.records] == [None, None]
    assert partition.keys() == ["acme|k:ab", "acme|u:2023-10-01T00"]
    assert shard.outlived_keys == []
