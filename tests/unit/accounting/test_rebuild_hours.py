"""Usage hours are made of the outcomes that the fold of a shard took, or of none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from aiokafka import TopicPartition

from accounting.rebuild.build import Overtaken, ShardBuild
from accounting.rebuild.folders import Folders
from schemas.ids import uuid7
from schemas.outgoing import outcome_record
from schemas.runtime.kafka.free_consumer import Positions
from schemas.times import FULL
from tests.support.events import NOW_MS, attempt, finished
from tests.support.log_in_memory import LogInMemory


class _Parts:
    times = FULL
    ledger: Any = None
    folders = Folders(None)  # type: ignore[arg-type]  # Nothing is looked up.


class _ShorterLog(LogInMemory):
    """A log that retention shortens."""

    begin = 0

    async def bounds(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, Positions]:
        """Where each begins by now, and ends."""
        whole = await super().bounds(partitions)
        return {at: Positions(self.begin, found.end) for at, found in whole.items()}


async def _folded() -> tuple[ShardBuild, _ShorterLog]:
    log = _ShorterLog()
    for number in (0, 1, 0, 2):
        event = msgspec.structs.replace(
            finished([attempt(input_tokens=7)], []),
            request_id=uuid7(NOW_MS, number.to_bytes(10)),
        )
        log.append(outcome_record(event, "dispatcher"), 0, NOW_MS)
    build = ShardBuild(0, 0, "", "trial", _Parts())  # type: ignore[arg-type]
    await build.fold_outcomes(log)
    return build, log


async def test_copies_and_later_outcomes_add_nothing() -> None:
    """Those are booked, beside what is restored."""
    build, log = await _folded()
    later = msgspec.structs.replace(finished([attempt()], []), request_id="later")
    log.append(outcome_record(later, "dispatcher"), 0, NOW_MS)

    hours = await build.fold_hours(log)
    ((table, cells),) = hours.cells.items()
    assert {name.rpartition("\t")[2]: amount for name, amount in cells.items()}["requests"] == 3
    assert hours.changed[table] == 3


async def test_what_retention_took_meanwhile_is_not_left_out() -> None:
    """The shard is made again from what there is."""
    build, log = await _folded()
    log.begin = 1
    with pytest.raises(Overtaken):
        await build.fold_hours(log)
