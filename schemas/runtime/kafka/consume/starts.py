"""Begins partitions that were assigned: asks the group, the ledger and the log, and seeks.

What cannot be begun stands still for a stated cause, and is looked at again every two seconds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from typing import Any, Final

from aiokafka.errors import KafkaError
from faust.types import TP

from schemas.runtime.kafka.consume.ack_window import Partition
from schemas.runtime.kafka.consume.offsets import Mark
from schemas.runtime.kafka.consume.records import Record
from schemas.runtime.kafka.consume.starting import UNSURE, Extent, mark_of, start_of

__all__ = ["Starts"]

_AGAIN_S: Final = 2.0


class Starts:
    """The beginnings of one consumer, a ``DirectConsumer``."""

    def __init__(self, consumer: Any) -> None:
        self._consumer = consumer
        self._app = consumer.app
        self.waiting: set[Partition] = set()
        """Those that stand still and are looked at again."""
        self.ends: dict[Partition, int] = {}
        """The log's end after each was assigned, in this generation of the group."""

    def is_fresh(self, record: Record) -> bool:
        """Whether nobody else can have been given the record: it was appended after its partition came to
        this process, and no rebalance has begun since.

        A member that was put out and does not know it yet reads on for a while: whoever concludes from
        this that nothing was spent has to cover that case.
        """
        end = self.ends.get((record.topic, record.partition))
        is_current = record.generation == self._app.consumer_generation_id
        return is_current and end is not None and record.offset >= end

    async def keep(self) -> None:
        """Look again at those that wait, for ever."""
        while True:
            await asyncio.sleep(_AGAIN_S)
            if self.waiting:
                await self.begin({TP(*partition) for partition in self.waiting})

    async def begin(self, partitions: Collection[TP]) -> None:
        """Read each above what was processed of it, or have it stand still."""
        generation = self._app.consumer_generation_id
        committed = await self._consumer.member.committed(partitions)
        kept = await self._app.marks.read(partitions)
        marks = {tp: mark_of(committed.get(tp), kept and kept[tp]) for tp in partitions}
        extents, starts = await self._starts(marks)
        if kept is None:
            starts |= {tp: UNSURE for tp, mark in marks.items() if mark is None or not mark.is_ours}
        if generation == self._app.consumer_generation_id:
            self.ends |= {partition: extent.end for partition, extent in extents.items()}
            await self._apply(marks, starts, committed)

    async def _starts(
        self, marks: Mapping[TP, Mark | None]
    ) -> tuple[Mapping[Partition, Extent], dict[TP, int | str]]:
        times = {tp: mark.newest_ms if mark else 0 for tp, mark in marks.items()}
        try:
            extents = await self._consumer.member.extents(times)
        except (KafkaError, TimeoutError) as error:
            return {}, dict.fromkeys(marks, f"the broker does not tell the log's extent: {error!r}")
        return extents, {tp: start_of(tp, mark, extents[tp]) for tp, mark in marks.items()}

    async def _apply(
        self,
        marks: Mapping[TP, Mark | None],
        starts: Mapping[TP, int | str],
        committed: Mapping[Partition, tuple[int, str]],
    ) -> None:
        offsets = {tp: start for tp, start in starts.items() if isinstance(start, int)}
        self._consumer.member.seek_all(offsets)
        lowered: dict[Partition, Mark] = {}
        for tp, start in starts.items():
            if isinstance(start, str):
                self.waiting.add(tp)
                self._consumer.hold(tp, start)
                continue
            if (mark := marks[tp]) is not None:
                self._app.windows[tp.topic].remember(tp, mark)
                if committed.get(tp, (-1, ""))[0] < mark.offset:
                    lowered[tp] = mark
            self._consumer.read_from(tp, start)
            if tp in self.waiting:
                self.waiting.discard(tp)
                self._consumer.release(tp)
        if lowered:
            # Somebody reset the group: it is as far again as it was, for everybody who looks at it.
            await self._consumer.member.commit_positions(lowered, self._app.consumer_generation_id)
