"""Merges partitions that are each in the order of time, so that what happened is told as it happened."""

from __future__ import annotations

import heapq
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Final

from aiokafka import TopicPartition

from accounting.rebuild.log import Log
from accounting.rebuild.records import LogRecord
from deploy.replay.origin import Placed

__all__ = ["Part", "merged"]

_PAGE_MAX: Final = 500


@dataclass(frozen=True, slots=True)
class Part:
    """The offsets [begin, end) of a partition."""

    partition: TopicPartition
    begin: int
    end: int


async def merged(log: Log, parts: Sequence[Part]) -> AsyncIterator[list[Placed]]:
    """The records of all parts by the time when they were appended, in pieces; of two of the same millisecond that
    of the earlier part comes first. A page of each part is in memory. Raises ``KafkaError`` and ``LogUnreadable``."""
    cursors = [_Cursor(part, log.pages(part.partition, part.begin, part.end)) for part in parts]
    heads: list[tuple[int, int]] = []
    for number, cursor in enumerate(cursors):
        if await cursor.has_next():
            heads.append((cursor.head.timestamp, number))
    heapq.heapify(heads)
    piece: list[Placed] = []
    while heads:
        _, number = heapq.heappop(heads)
        cursor = cursors[number]
        piece.append(cursor.take())
        if await cursor.has_next():
            heapq.heappush(heads, (cursor.head.timestamp, number))
        if len(piece) >= _PAGE_MAX:
            yield piece
            piece = []
    if piece:
        yield piece


@dataclass(slots=True)
class _Cursor:
    part: Part
    pages: AsyncIterator[list[LogRecord]]
    page: Sequence[LogRecord] = ()
    at: int = 0

    @property
    def head(self) -> LogRecord:
        return self.page[self.at]

    async def has_next(self) -> bool:
        while self.at >= len(self.page):
            try:
                self.page, self.at = list(await anext(self.pages)), 0
            except StopAsyncIteration:
                return False
        return True

    def take(self) -> Placed:
        head, of = self.head, self.part.partition
        self.at += 1
        return Placed(
            of.topic, of.partition, head.offset, head.timestamp, head.key, head.value, head.headers
        )
