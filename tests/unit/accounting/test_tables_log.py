"""Who writes a shard's snapshots sees whether somebody else does, too."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, cast

import pytest

from accounting.tables_log import TablesLog
from schemas.events import RecordRef
from schemas.outgoing import Outgoing, tombstone_record
from schemas.runtime.kafka.produce import ProduceFailed, Producer


class _Partitions:
    """Gives out offsets; another writer takes some."""

    def __init__(self, failing: Sequence[bytes] = ()) -> None:
        self.ends: dict[int, int] = {}
        self.failing = failing

    def send(self, record: Outgoing) -> asyncio.Future[RecordRef]:
        sent: asyncio.Future[RecordRef] = asyncio.get_running_loop().create_future()
        assert record.partition is not None
        if record.key in self.failing:
            sent.set_exception(ProduceFailed("not now"))
            return sent
        sent.set_result(
            RecordRef(
                topic=record.topic, partition=record.partition, offset=self.take(record.partition)
            )
        )
        return sent

    def take(self, partition: int) -> int:
        self.ends[partition] = self.ends.get(partition, 40) + 1
        return self.ends[partition]


def _log(partitions: _Partitions) -> TablesLog:
    return TablesLog(cast("Producer", cast("Any", partitions)))


async def test_a_writer_alone_meets_nobody() -> None:
    """Wherever it begins, in whatever partition."""
    log = _log(_Partitions())
    await log.write([tombstone_record(shard, "a|k:1") for shard in (3, 4, 3)])
    await asyncio.sleep(0)

    assert log.strangers == set()


async def test_a_record_of_another_writer_is_seen() -> None:
    """An owner that slept may have written an older table over a newer one."""
    partitions = _Partitions()
    log = _log(partitions)
    await log.write([tombstone_record(3, "a|k:1")])
    partitions.take(3)
    await log.write([tombstone_record(3, "a|k:2"), tombstone_record(4, "a|k:3")])
    await asyncio.sleep(0)

    assert log.strangers == {3}


async def test_what_is_not_acknowledged_is_told() -> None:
    """After the others are."""
    log = _log(_Partitions(failing=[b"a|k:1"]))

    with pytest.raises(ProduceFailed):
        await log.write([tombstone_record(3, "a|k:1"), tombstone_record(3, "a|k:2")])
