"""The shards' partitions of ``usage.tables.v1``, as their owner writes them; it sees when somebody else does.

Offsets of one writer follow each other. A gap is a record of another: of an owner that slept while its place was
taken, and that may have written an older table over a newer one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from schemas.events import RecordRef
from schemas.outgoing import Outgoing
from schemas.runtime.kafka.produce import Producer

__all__ = ["TablesLog"]


@dataclass(slots=True)
class TablesLog:
    """Writes through the producer of the process, and compares where its records stand."""

    producer: Producer
    strangers: set[int] = field(default_factory=set)
    """Shards of which somebody else wrote between two records from here."""
    _last: dict[int, int] = field(default_factory=dict)

    def send(self, record: Outgoing) -> asyncio.Future[RecordRef]:
        """As ``Producer.send``."""
        sending = self.producer.send(record)
        sending.add_done_callback(self._note)
        return sending

    async def write(self, records: Sequence[Outgoing]) -> None:
        """Send all of them; raises the first failure once every one is settled."""
        results = await asyncio.gather(*map(self.send, records), return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result

    async def deliver(self, records: Sequence[Outgoing], deadline_s: float) -> None:
        """As ``Producer.deliver``."""
        await self.producer.deliver(records, deadline_s, self.send)

    def _note(self, sent: asyncio.Future[RecordRef]) -> None:
        if sent.cancelled() or sent.exception() is not None:
            return
        at = sent.result()
        if self._last.get(at.partition, at.offset - 1) != at.offset - 1:
            self.strangers.add(at.partition)
        self._last[at.partition] = at.offset
