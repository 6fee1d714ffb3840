"""Keeps in the ledger's store how far each partition was processed, where no reset of a group reaches it.

A mark is written beside the commits, once a second, and never lowered: of two owners of a partition the
one that is further is right. It is no part of the ledger's functions, so that it stands also while the
ledger is not ready, and is written also while the store is full.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from contextlib import suppress
from typing import Any, Final

from schemas.ledger.keys import processed
from schemas.log_events import LogEvent
from schemas.runtime.kafka.consume.ack_window import Partition
from schemas.runtime.kafka.consume.offsets import Mark, decode_mark, encode_mark
from schemas.runtime.process.event_log import EventLog
from schemas.runtime.valkey.store import Store, StoreError, StoreUnavailable

__all__ = ["ProcessedMarks"]

_LOG = EventLog(__name__)

_READ_WITHIN_S: Final = 3.0
_WRITE_WITHIN_S: Final = 2.0
_WRITE_EVERY_S: Final = 1.0
_RAISE: Final = """#!lua flags=allow-oom
if tonumber(ARGV[1]) >= tonumber(redis.call('HGET', KEYS[1], 'offset') or '0') then
  redis.call('HSET', KEYS[1], 'offset', ARGV[1], 'beyond', ARGV[2])
end"""


class ProcessedMarks:
    """The marks of the partitions that this process owns, and owned."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._unwritten: dict[Partition, Mark] = {}

    def note(self, marks: Mapping[Partition, Mark]) -> None:
        """The group has committed these."""
        self._unwritten.update(marks)

    async def read(self, partitions: Collection[Partition]) -> dict[Partition, Mark | None] | None:
        """The mark of each partition, ``None`` where there is none; ``None`` when the store is silent."""
        calls = [self._store.call("HMGET", processed(*p), "offset", "beyond") for p in partitions]
        try:
            async with asyncio.timeout(_READ_WITHIN_S):
                found = await asyncio.gather(*calls)
        except (TimeoutError, StoreUnavailable, StoreError) as error:
            _LOG.event(LogEvent.ROUND_WAITS, step="read marks", error=error)
            return None
        return {p: _mark(reply) for p, reply in zip(partitions, found, strict=True)}

    async def keep(self) -> None:
        """Write what is new once a second, for ever."""
        while True:
            await asyncio.sleep(_WRITE_EVERY_S)
            await self.write()

    async def write(self) -> None:
        """Write what is new; what the store does not take is tried again with the next."""
        marks, self._unwritten = self._unwritten, {}
        calls = [
            self._store.call("EVAL", _RAISE, 1, processed(*p), mark.offset, encode_mark(mark))
            for p, mark in marks.items()
        ]
        try:
            async with asyncio.timeout(_WRITE_WITHIN_S):
                await asyncio.gather(*calls)
        except (TimeoutError, StoreUnavailable, StoreError) as error:
            _LOG.event(LogEvent.ROUND_WAITS, step="keep marks", count=len(marks), error=error)
            self._unwritten = marks | self._unwritten


def _mark(reply: Any) -> Mark | None:
    """What stands in the store; nothing that is unreadable can be a mark."""
    with suppress(TypeError, ValueError, AttributeError):
        offset, beyond = reply
        return decode_mark(int(offset), beyond.decode()) or Mark(int(offset))
    return None
