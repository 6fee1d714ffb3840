"""Runs verifications, those that operators ask for and one every minute in the background, and keeps what they say.

Each admin process verifies for itself, with a checkpoint of its own: none has to trust another, and one that is
alone is enough.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
from aiokafka.errors import KafkaError

from ingress.admin.deps import AdminDeps
from ingress.admin.finance.books_alarm import BooksAlarm, Change, ShardVerdict
from ingress.admin.finance.verification import VerifyJob
from ingress.admin.finance.verify import COMPARED_SPAN
from ingress.admin.log.scans import Scans
from schemas.failures import Transient
from schemas.log_events import LogEvent
from schemas.runtime.process.event_log import EventLog
from schemas.runtime.process.telemetry import Metrics

_LOG = EventLog(__name__)

KIND: Final = "ledger-verify"
_READ_WITHIN_S: Final = 600.0
"""A log that takes longer is read in several verifications: each goes on where the last one was."""
_MARGIN_S: Final = 180.0
_CATCH_UP: Final = 3
"""In the background accounting may catch up for so small a part of the period."""
_LINES_MAX: Final = 20
"""Log lines of one round; the admin API has the rest."""


@dataclass(slots=True)
class Verifier:
    """Verifications of one admin process."""

    deps: AdminDeps
    scans: Scans
    metrics: Metrics
    alarm: BooksAlarm

    @classmethod
    def create(cls, deps: AdminDeps, scans: Scans, metrics: Metrics) -> Verifier:
        """Nothing was verified yet."""
        period_s = deps.settings.times.verify_period_ms / 1_000
        alarm = BooksAlarm(period_s=period_s, began_s=deps.clock.monotonic_s())
        return cls(deps, scans, metrics, alarm)

    @property
    def component(self) -> str:
        """The state of the books in readiness."""
        return self.alarm.component(self.deps.clock.monotonic_s())

    async def run(self) -> None:
        """Verify period after period, for ever."""
        while True:
            await asyncio.sleep(self.alarm.period_s)
            try:
                await self.verify(self.alarm.period_s / _CATCH_UP)
            except (Transient, KafkaError, TimeoutError) as error:
                _LOG.event(LogEvent.ROUND_WAITS, step="verify", error=error)
            except Exception as defect:  # noqa: BLE001  # total: it goes on whatever a round meets
                _LOG.event(LogEvent.ROUND_DEFECT, step="verify", defect=defect)

    async def verify(self, deadline_s: float, *, is_full: bool = False) -> dict[str, Any]:
        """The answer of one verification. Raises ``ScanUnavailable`` and ``ScanFailed``."""
        job = self._job(deadline_s, is_full=is_full)
        within_s = _READ_WITHIN_S + deadline_s + _MARGIN_S
        answer: dict[str, Any] = await self.scans.run(KIND, job, within_s)
        verdicts = msgspec.convert(answer["shards"], list[ShardVerdict])
        self._tell(self.alarm.take(verdicts, job.began_ms, self.deps.clock.monotonic_s()))
        return answer

    def _job(self, deadline_s: float, *, is_full: bool) -> VerifyJob:
        settings, clock = self.deps.settings, self.deps.clock
        began_ms = clock.now_ms()
        today = datetime.fromtimestamp(began_ms / 1_000, UTC).replace(
            hour=0, minute=0, second=0, microsecond=0
        )
        oldest_ms = int((today - COMPARED_SPAN).timestamp() * 1_000)
        return VerifyJob(
            brokers=settings.kafka_brokers,
            ledger_url=settings.ledger_url,
            shards=self.deps.shards.count,
            folder=str(settings.data_dir),
            began_ms=began_ms,
            oldest_ms=oldest_ms,
            from_ms=clock.appended_span_ms(oldest_ms, began_ms)[0],
            deadline_s=deadline_s,
            read_within_s=_READ_WITHIN_S,
            is_full=is_full,
        )

    def _tell(self, changes: Iterable[Change]) -> None:
        for shard, difference in self.alarm.amounts().items():
            self.metrics.set("tallygate_ledger_difference", difference, str(shard))
        for shard, at_ms in self.alarm.equal_at_ms.items():
            self.metrics.set("tallygate_ledger_equal_at_seconds", at_ms / 1_000, str(shard))
        for change in changes:
            if change.differs:
                _tell_difference(change.verdict)
            else:
                _LOG.event(LogEvent.BOOKS_AGREE, partition=change.verdict.shard)


def _tell_difference(verdict: ShardVerdict) -> None:
    """A line per sum that differs and request that explains it, so that both are found by their ids."""
    lines = (
        (each, request_id)
        for each in verdict.differences
        for request_id in each.get("explanation", {}).get("requests") or ("",)
    )
    for number, (each, request_id) in enumerate(lines):
        if number == _LINES_MAX:
            break
        _LOG.event(
            LogEvent.BOOKS_DIFFER,
            partition=verdict.shard,
            org=each["org"],
            what=each["what"],
            field=each["field"],
            ledger=each["ledger"],
            log=each["log"],
            request_id=request_id,
        )
