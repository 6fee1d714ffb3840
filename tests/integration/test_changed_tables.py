"""What a shard's snapshots are made of, on a real store: nothing that changed is missing, whoever dies when.

The oracle is the list of rows that were booked.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, cast

import pytest_asyncio

from accounting.booking import BookedThrough, Place
from accounting.rebuild.snapshots import ShardSnapshots
from accounting.snapshots import Snapshots
from accounting.tables_log import TablesLog
from schemas.codec import decode_as
from schemas.events import RecordRef, TableSnapshot
from schemas.ledger import documents, table_calls
from schemas.outgoing import Outgoing
from schemas.runtime.ledger.client import LedgerClient, ledger_store
from schemas.runtime.process.clock import Clock
from schemas.times import FULL, HOUR_MS
from tests.support.harness.ledger_server import LedgerServer
from tests.support.one_shard import META_KEY, ONE_SHARD, SHARD

_MONTH = "b:org/nano_usd:2030-01"
_HOUR = "2030-01-05T12"
_KEPT = f"acme|k:{'ab' * 32}"


@dataclass(frozen=True)
class _Read:
    """A record as a consumer hands it out."""

    key: bytes
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]
    offset: int
    timestamp: int = 0


class Partition:
    """The shard's partition of the log: what is in it stays, whoever wrote it dies."""

    def __init__(self) -> None:
        self.records: list[Outgoing] = []
        self.end = 0

    def send(self, record: Outgoing) -> asyncio.Future[RecordRef]:
        self.records.append(record)
        sent: asyncio.Future[RecordRef] = asyncio.get_running_loop().create_future()
        sent.set_result(RecordRef(topic=record.topic, partition=SHARD, offset=self.end))
        self.end += 1
        return sent

    def folded(self) -> ShardSnapshots:
        """As a rebuild reads it."""
        fold = ShardSnapshots(SHARD)
        for place, record in enumerate(self.records):
            fold.take(_Read(record.key, record.value, tuple(record.headers), place), SHARD)
        return fold

    def cells(self, org: str) -> dict[str, int]:
        """The newest usage hour of the organization."""
        (part,) = self.folded().hours()[org, _HOUR]
        return decode_as(self.records[part.place].value, TableSnapshot).values

    def settled(self, org: str) -> int:
        return self.folded().balances[org, _MONTH].settled


@pytest_asyncio.fixture
async def ledger(server: LedgerServer) -> AsyncIterator[LedgerClient]:
    """One shard, empty and whole."""
    store = ledger_store(server.url)
    await store.start()
    await store.call("FLUSHALL")
    await store.call("HSET", META_KEY, "epoch", "1", "ready", "1", "complete", "1")
    yield LedgerClient(store, ONE_SHARD)
    await store.stop()


def _owner(ledger: LedgerClient, partition: Partition, booked: BookedThrough) -> Snapshots:
    """A process that owns the shard and knows nothing of those before it."""
    return Snapshots(
        ledger=ledger,
        log=TablesLog(cast("Any", partition)),
        clock=Clock(),
        times=FULL.ledger,
        owned=lambda: frozenset({SHARD}),
        booked=booked,
    )


async def _book(ledger: LedgerClient, org: str, offset: int, cost: int, **more: Any) -> None:
    usage = documents.UsageLine(hour=_HOUR, row="k\tu\tm\tb", measures={"cost_nano_usd": cost})
    row = documents.OutcomeRow(
        offset=offset,
        at_ms=1,
        req=f"r{offset}",
        deadline_ms=1,
        ran=True,
        usage=(usage,),
        bookings=(documents.Booking(key=_MONTH, unit="nano_usd", amount=cost),),
        **more,
    )
    await ledger.book(documents.Book(org=org, partition=SHARD, rows=(row,)))


async def test_who_dies_right_after_a_book_leaves_nothing_unwritten(ledger: LedgerClient) -> None:
    """An organization that was booked in the last moment, and never again, is in the log."""
    partition = Partition()
    booked: BookedThrough = {}
    first = _owner(ledger, partition, booked)
    for offset, org in enumerate(("acme", "b", "acme")):
        await _book(ledger, org, offset, 100 + offset)
        booked[SHARD] = Place(offset, 1_000 + offset)
    await first.publish()
    await _book(ledger, "late", 3, 7)  # And dies before anything else.

    await _owner(ledger, partition, {}).publish()

    fold = partition.folded()
    assert {org: total.settled for (org, _), total in fold.balances.items()} == {
        "acme": 100 + 102,
        "b": 101,
        "late": 7,
    }
    assert partition.cells("late") == {"k\tu\tm\tb\tcost_nano_usd": 7}
    assert fold.checkpoint is not None
    assert (fold.checkpoint.offset, fold.stands_for) == (2, 2)


async def test_a_table_that_changes_during_its_writing_is_written_again(
    ledger: LedgerClient,
) -> None:
    """What was read before the change must not be taken for what is."""
    partition = Partition()
    await _book(ledger, "acme", 0, 5)
    listed = await ledger.changed(SHARD, table_calls.Page())
    await _book(ledger, "acme", 1, 6)
    await ledger.written(SHARD, table_calls.Written(tables=listed.tables))

    await _owner(ledger, partition, {}).publish()
    assert partition.settled("acme") == 11
    assert (await ledger.changed(SHARD, table_calls.Page())).tables == ()


async def test_thousands_of_tables_are_written_in_one_round(ledger: LedgerClient) -> None:
    """And all of them anew in a sweep, although none changed."""
    orgs = [f"org-{number}" for number in range(1_500)]
    await asyncio.gather(*(_book(ledger, org, at, at + 1) for at, org in enumerate(orgs)))
    partition = Partition()
    owner = _owner(ledger, partition, {SHARD: Place(1_499, 1)})
    await owner.publish()

    fold = partition.folded()
    assert {org: total.settled for (org, _), total in fold.balances.items()} == {
        org: at + 1 for at, org in enumerate(orgs)
    }
    assert len(fold.hours()) == len(orgs)
    # A shard that was never swept is, from its first round on.
    partition.records.clear()
    await owner.publish()
    assert len(partition.folded().balances) == len(orgs)
    partition.records.clear()
    await owner.publish()
    assert partition.records == []


async def test_a_key_is_forgotten_in_the_log_when_it_is_due(ledger: LedgerClient) -> None:
    """By a tombstone; one that is kept longer since, is not."""
    for offset, until_ms in ((0, 1), (1, 4 * 10**12), (2, 2)):
        kept = (documents.KeptKey(key=_KEPT if offset < 2 else "acme|j:r2", until_ms=until_ms),)
        await _book(ledger, "acme", offset, 0, kept=kept)
    partition = Partition()
    await _owner(ledger, partition, {}).publish()

    gone = [record.key for record in partition.records if record.value is None]
    assert gone == [b"acme|j:r2"]
    assert (await ledger.outlived(SHARD, table_calls.ListOutlived())).keys == ()


async def test_a_closed_shard_and_one_that_is_not_whole_write_nothing(
    ledger: LedgerClient, server: LedgerServer
) -> None:
    """Tables that a rebuild has not finished would replace those it is made from."""
    partition = Partition()
    await _book(ledger, "acme", 0, 5)
    store = ledger_store(server.url)
    await store.start()
    try:
        for fields in (("complete", "0"), ("ready", "0")):
            await store.call("HSET", META_KEY, *fields)
            await _owner(ledger, partition, {SHARD: Place(0, HOUR_MS)}).publish()
    finally:
        await store.stop()

    assert partition.records == []
