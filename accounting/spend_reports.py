"""Tells an external budget service what was spent: at least once, in order, from where its own group stands.

It reads the outcomes beside the books, which never wait for it. Only what the service has taken is committed, so that
a restart goes on there; the log is its queue. How far it is stands in the ledger's store, where the limiter learns what
is counted. Spend that is taken back is announced there, and told ``RETURNED_AFTER_S`` later
(``schemas/budget_service.py``): by then nobody goes by a sum that has it still.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import CommitFailedError, IllegalStateError

from accounting.spend_lines import may_have_line, spend_line
from schemas.budget_service import LINES_MAX, RETURNED_AFTER_S, SPEND_PATH, Spend, SpendLine
from schemas.codec import MalformedRecord, decode
from schemas.ledger.keys import REPORTED, of_shard
from schemas.log_events import LogEvent
from schemas.readiness import DEGRADED
from schemas.runtime.budget_service import BudgetService, ServiceSilent
from schemas.runtime.kafka.access import client_options
from schemas.runtime.kafka.free_consumer import stop_consumer
from schemas.runtime.process.clock import Clock
from schemas.runtime.process.event_log import EventLog
from schemas.runtime.process.telemetry import Metrics
from schemas.runtime.valkey.store import Store, StoreError, StoreUnavailable
from schemas.topics import OUTCOMES, SPEND_GROUP

__all__ = ["SpendReports"]

_LOG = EventLog(__name__)

_TAKEN: Final = range(200, 300)
_REFUSED: Final = frozenset({413, 422})
"""Too large, or read and not to be counted: other answers say nothing of the lines."""
_TOGETHER_S: Final = 0.05
_WAIT_MS: Final = 250
_ROUND_S: Final = 1.0
_PAUSE_FIRST_S: Final = 0.1
_PAUSE_MAX_S: Final = 5.0
_RETURNED_MAX: Final = 10_000
_FOR_EVER_MS: Final = 2**31 - 1
_SAY: Final = """#!lua flags=allow-oom
redis.call('HSET', KEYS[1], 'offset', ARGV[1])
if tonumber(ARGV[2]) > tonumber(redis.call('HGET', KEYS[1], 'returned') or '-1') then
  redis.call('HSET', KEYS[1], 'returned', ARGV[2])
end"""
"""An announcement is never taken back, by an owner of before least of all."""


@dataclass(slots=True)
class _Returned:
    """Spend that is taken back, and when that was announced."""

    partition: TopicPartition
    offset: int
    line: SpendLine
    announced_s: float | None = None


@dataclass(slots=True)
class SpendReports:
    """The reporter of one accounting process; several share the partitions."""

    brokers: str
    service: BudgetService
    store: Store
    clock: Clock
    metrics: Metrics
    _returned: list[_Returned] = field(default_factory=list)
    _round_s: float = 0.0
    _silent_since_s: float | None = None

    def components(self) -> dict[str, str]:
        """Readiness: whether the service takes what it is told."""
        if self._silent_since_s is None:
            return {"spend": "ok"}
        silent_s = self.clock.monotonic_s() - self._silent_since_s
        return {"spend": f"{DEGRADED}the budget service has taken no spend for {silent_s:.0f} s"}

    async def run(self) -> None:
        """Read and tell, for ever. Raises ``KafkaError`` when the log is away: it is begun again then."""
        consumer = AIOKafkaConsumer(
            OUTCOMES,
            **client_options(self.brokers),
            group_id=SPEND_GROUP,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            # A service that is away for long is no reason to leave the group.
            max_poll_interval_ms=_FOR_EVER_MS,
        )
        self._returned.clear()
        try:
            await consumer.start()
            while True:
                await self._turn(consumer)
        finally:
            await self.service.close()
            await stop_consumer(consumer)

    async def _turn(self, consumer: AIOKafkaConsumer) -> None:
        found: dict[TopicPartition, list[ConsumerRecord]] = {}
        if len(self._returned) < _RETURNED_MAX:
            found = await consumer.getmany(timeout_ms=_WAIT_MS, max_records=LINES_MAX)
        await self.tell([line for records in found.values() for line in self._lines(records)])
        now_s, is_round = self.clock.monotonic_s(), False
        if now_s - self._round_s >= _ROUND_S:
            self._round_s, is_round = now_s, True
        if found or is_round:
            await self._publish(consumer, set(consumer.assignment()) if is_round else set(found))
        if is_round:
            await self._give_back(consumer)
            await self._commit(consumer)
        await asyncio.sleep(_TOGETHER_S)

    def _lines(self, records: Sequence[ConsumerRecord]) -> list[SpendLine]:
        """What is told now; what is taken back is kept for later. Raises ``UnknownSchema``."""
        lines = []
        for record in records:
            if not may_have_line(record.value):
                continue
            try:
                line = spend_line(decode(record.value))
            except MalformedRecord:
                continue  # The books bury it.
            if line is None:
                continue
            if line.spent_usd.startswith("-"):
                partition = TopicPartition(record.topic, record.partition)
                self._returned.append(_Returned(partition, record.offset, line))
            else:
                lines.append(line)
        return lines

    async def tell(self, lines: Sequence[SpendLine]) -> None:
        """Returns once the service has taken each of them, or refused it by itself."""
        pause_s = _PAUSE_FIRST_S
        while lines:
            batch = lines[:LINES_MAX]
            status = await self._post(batch)
            if status in _REFUSED and len(batch) > 1:
                half = len(batch) // 2
                await self.tell(batch[:half])
                await self.tell(batch[half:])
            elif status in _REFUSED:
                self._pass_over(batch[0], status)
            elif status not in _TAKEN:
                self._silent_since_s = self._silent_since_s or self.clock.monotonic_s()
                await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))  # noqa: S311  # jitter
                pause_s = min(2 * pause_s, _PAUSE_MAX_S)
                continue
            else:
                self.metrics.count("tallygate_spend_lines_total", "taken", by=len(batch))
            self._silent_since_s, pause_s = None, _PAUSE_FIRST_S
            lines = lines[len(batch) :]

    async def _post(self, lines: Sequence[SpendLine]) -> int:
        """Status of the answer; 0 for none."""
        try:
            body = msgspec.json.encode(Spend(lines=tuple(lines)))
            status, _ = await self.service.post(SPEND_PATH, body)
        except ServiceSilent as error:
            _LOG.event(LogEvent.ROUND_WAITS, step="tell spend", count=len(lines), error=error)
            return 0
        if status not in _TAKEN and status not in _REFUSED:
            _LOG.event(LogEvent.ROUND_WAITS, step="tell spend", count=len(lines), status=status)
        return status

    def _pass_over(self, line: SpendLine, status: int) -> None:
        self.metrics.count("tallygate_spend_lines_total", "refused")
        _LOG.event(
            LogEvent.SPEND_REFUSED,
            request_id=line.request_id,
            org=line.org,
            status=status,
            text=msgspec.json.encode(line).decode(),
        )

    async def _give_back(self, consumer: AIOKafkaConsumer) -> None:
        """Tell what is taken back and was announced for long enough."""
        owned, until_s = consumer.assignment(), self.clock.monotonic_s() - RETURNED_AFTER_S
        kept = [each for each in self._returned if each.partition in owned]
        due = [e for e in kept if e.announced_s is not None and e.announced_s <= until_s]
        await self.tell([each.line for each in due])
        self._returned = [each for each in kept if each not in due]

    async def _publish(self, consumer: AIOKafkaConsumer, partitions: set[TopicPartition]) -> None:
        """Say how far the service was told, and announce what is taken back; what the store does not take is said again
        within a second."""
        try:
            for each in partitions & set(consumer.assignment()):
                told = await consumer.position(each)
                ours = [back for back in self._returned if back.partition == each]
                last = max((back.offset for back in ours), default=-1)
                key = of_shard(each.partition, REPORTED)
                await self.store.call("EVAL", _SAY, 1, key, told, last)
                for back in ours:
                    back.announced_s = back.announced_s or self.clock.monotonic_s()
        except (StoreUnavailable, StoreError, IllegalStateError) as error:
            _LOG.event(LogEvent.ROUND_WAITS, step="say what was told", error=error)

    async def _commit(self, consumer: AIOKafkaConsumer) -> None:
        """Commit what was told; what is still to be taken back is read again after a restart."""
        first: dict[TopicPartition, int] = {}
        for each in self._returned:
            first[each.partition] = min(each.offset, first.get(each.partition, each.offset))
        try:
            done = {p: await consumer.position(p) for p in consumer.assignment()}
            if done:
                await consumer.commit({p: min(at, first.get(p, at)) for p, at in done.items()})
        except (CommitFailedError, IllegalStateError) as error:
            _LOG.event(LogEvent.ROUND_WAITS, step="commit what was told", error=error)
