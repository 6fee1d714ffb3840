"""How much of the log is read beside clients."""

from __future__ import annotations

import asyncio

from aiokafka import TopicPartition

from schemas.runtime.kafka.stretches import records_in, stretch_since
from schemas.runtime.process.pace import Pace
from schemas.topics import OUTCOMES
from tests.support.partitions import MemoryPartitions

T = 1_800_000_000_000
PARTITION = TopicPartition(OUTCOMES, 0)


def _log(records: int, size: int = 1) -> MemoryPartitions:
    log = MemoryPartitions()
    for number in range(records):
        log.topics[OUTCOMES].add("r", T + number, value=b"x" * size)
    return log


async def _read(log: MemoryPartitions, pace: Pace | None) -> int:
    stretch = await stretch_since(log, PARTITION, 0)
    return len([record async for record in records_in(log, stretch, pace)])


async def test_readers_keep_one_pace_together() -> None:
    """Four who read at once take as long as one who reads four times as much; by records, and by bytes."""
    loop = asyncio.get_running_loop()
    for pace, size in ((Pace(records_per_s=1_000), 1), (Pace(bytes_per_s=10_000), 10)):
        begun_s = loop.time()
        found = await asyncio.gather(*(_read(_log(25, size), pace) for _ in range(4)))

        assert found == [25] * 4
        assert loop.time() - begun_s >= 0.09


async def test_without_a_pace_nobody_rests() -> None:
    """Workers, which serve no clients, read as fast as they can."""
    loop = asyncio.get_running_loop()
    begun_s = loop.time()

    assert await _read(_log(1_000), None) == 1_000
    assert loop.time() - begun_s < 1
