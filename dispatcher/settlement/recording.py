"""Writes down what became of requests: outcomes, corrections and large results, until the broker has them.

What was spent is written down however long that takes; only the watchdog ends such a wait earlier.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from dispatcher.amounts import without_result
from dispatcher.claims.claiming import AS_LONG_AS_IT_TAKES_S
from schemas.events import AttemptAdjusted, RecordRef, RequestFinished
from schemas.failures import Failure, Poison, Transient
from schemas.headers import passed_on
from schemas.log_events import LogEvent
from schemas.outgoing import Outgoing, adjustment_record, outcome_record, result_record
from schemas.runtime.kafka.consume.records import Record
from schemas.runtime.kafka.produce import ProduceFailed, Producer
from schemas.runtime.kafka.results import is_inline, referring
from schemas.runtime.process.clock import Clock
from schemas.runtime.process.event_log import EventLog, of_request
from schemas.runtime.process.retry import retry_until

_LOG = EventLog(__name__)

_RESULT_WITHIN_S: Final = 10.0
_INLINE_AT_NEED_BYTES_MAX: Final = 64 * 1024
"""While Kafka is away a result of up to this size stays in its outcome, in the ledger's memory."""


class Sent(msgspec.Struct, frozen=True):
    """An outcome on its way to the broker."""

    finished: RequestFinished
    headers: Mapping[str, bytes]
    outgoing: Outgoing
    delivered: asyncio.Future[RecordRef]


@dataclass(slots=True)
class Recording:
    """Produces; returns when the broker has it."""

    producer: Producer
    clock: Clock

    async def outcome(self, record: Record, finished: RequestFinished, encoded: bytes) -> None:
        """Produce the outcome. One that no broker takes loses its result and its long texts, never
        itself."""
        await self.arrived(self.send_outcome(record, finished, encoded))

    def send_outcome(self, record: Record, finished: RequestFinished, encoded: bytes) -> Sent:
        """Hand the outcome to the producer, and do something else until ``arrived`` is asked for."""
        headers = passed_on(record.headers)
        outgoing = outcome_record(finished, "dispatcher", headers, encoded)
        return Sent(finished, headers, outgoing, self.producer.send(outgoing))

    async def arrived(self, sent: Sent) -> None:
        """Return when the broker has the outcome, as ``outcome`` does."""
        try:
            try:
                await sent.delivered
            except ProduceFailed:
                await self._produce([sent.outgoing])
        except Poison as refused:
            _LOG.event(LogEvent.RESULT_NOT_KEPT, **of_request(sent.finished), error=refused)
            small = without_result(sent.finished)
            await self._produce([outcome_record(small, "dispatcher", sent.headers)])

    async def corrections(self, record: Record, changes: Sequence[AttemptAdjusted]) -> None:
        """Produce corrections of booked attempts; accounting applies them, to the balances as well."""
        headers = passed_on(record.headers)
        await self._produce([adjustment_record(change, headers) for change in changes])

    async def set_result_aside(
        self, record: Record, finished: RequestFinished, *, waits: bool
    ) -> RequestFinished:
        """The outcome with its result in a record of its own, which a client that waits is not kept
        waiting for: then a usual one stays inside, a larger one is lost, as one that no broker takes is."""
        aside = result_record(finished, passed_on(record.headers))
        within_s = _RESULT_WITHIN_S if waits else AS_LONG_AS_IT_TAKES_S
        until_s = self.clock.monotonic_s() + within_s
        try:
            ref = await retry_until(lambda: self._kept(aside, within_s), Transient, until_s)
        except Failure as refused:
            if isinstance(refused, Transient) and is_inline(
                finished.result, _INLINE_AT_NEED_BYTES_MAX
            ):
                return finished
            _LOG.event(LogEvent.RESULT_NOT_KEPT, **of_request(finished), error=refused)
            return msgspec.structs.replace(finished, result=None)
        return referring(finished, ref)

    async def _kept(self, aside: Outgoing, within_s: float) -> RecordRef:
        try:
            async with asyncio.timeout(within_s):
                return await self.producer.send(aside)
        except TimeoutError as error:
            raise ProduceFailed(f"no acknowledgement within {within_s} s") from error

    async def _produce(self, records: list[Outgoing]) -> None:
        until_s = self.clock.monotonic_s() + AS_LONG_AS_IT_TAKES_S
        await self.producer.deliver(records, until_s)
