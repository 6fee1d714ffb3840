"""Produces outcomes again that the ledger has settled and the log has not, however old they are.

Whoever finishes a request produces its outcome; that may never happen when it dies just then and the log
loses what would be read again. A copy of what is in the log after all is equal to it, byte for byte, and
booking skips it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from accounting.booking import outcome_again
from accounting.positions import OutcomePositions, Positions
from schemas.failures import Transient
from schemas.ledger import answers, documents
from schemas.ledger.errors import LedgerNotReady
from schemas.log_events import LogEvent
from schemas.runtime.kafka.produce import Producer
from schemas.runtime.ledger.client import LedgerClient
from schemas.runtime.process.clock import Clock
from schemas.runtime.process.event_log import EventLog
from schemas.runtime.process.telemetry import Metrics
from schemas.times import Times

_LOG = EventLog(__name__)

_PAGE = 1_000
_REPAIRS_PER_ROUND = 256
_PRODUCE_WITHIN_S = 10.0


@dataclass(slots=True)
class Watermarks:
    """Until when each partition is booked: what was appended before that time is. Pure.

    An end is noted with its time; once accounting is done up to there, that time is passed. So neither the
    clock of a broker nor the number of records matters.
    """

    passed_ms: dict[int, int] = field(default_factory=dict)
    _noted: dict[int, tuple[int, int]] = field(default_factory=dict)

    def note(self, positions: Mapping[int, Positions], now_ms: int) -> None:
        """Positions that were read after ``now_ms``."""
        for partition, at in positions.items():
            end, noted_ms = self._noted.setdefault(partition, (at.end, now_ms))
            if at.done >= end:
                self.passed_ms[partition] = noted_ms
                self._noted[partition] = (at.end, now_ms)


def is_missing(
    entry: answers.UnbookedAttempt, produced_ms: int, passed_ms: int, margin_ms: int
) -> bool:
    """Whether the outcome should be booked by now: it was finished, and if need be produced again, a
    margin before the time up to which its partition is booked."""
    return max(entry.finished_ms, produced_ms) + margin_ms <= passed_ms


@dataclass(slots=True)
class Reconciler:
    """Runs beside the books; each replica repairs the partitions it owns."""

    ledger: LedgerClient
    producer: Producer
    positions: OutcomePositions
    owned: Callable[[], frozenset[int]]
    """Partitions of outcomes that this process books now."""
    clock: Clock
    metrics: Metrics
    times: Times
    watermarks: Watermarks = field(default_factory=Watermarks)
    produced_ms: dict[tuple[str, str], int] = field(default_factory=dict)

    async def run(self) -> None:
        """Reconcile period after period, for ever."""
        while True:
            await asyncio.sleep(self.times.reconcile_period_ms / 1_000)
            try:
                await self.reconcile()
            except Transient as error:
                _LOG.event(LogEvent.ROUND_WAITS, step="reconcile", error=error)
            except Exception as defect:  # noqa: BLE001  # total: it goes on whatever a round meets
                _LOG.event(LogEvent.ROUND_DEFECT, step="reconcile", defect=defect)

    async def reconcile(self) -> None:
        """Produce what is missing of the partitions that are owned."""
        listed = await self._listed()
        self.produced_ms = {
            scope: at_ms for scope, at_ms in self.produced_ms.items() if scope in listed
        }
        if not listed:
            return
        now_ms = self.clock.now_ms()
        self.watermarks.note(await self.positions.read(self.owned()), now_ms)
        missing = [scope for scope, entry in listed.items() if self._is_missing(entry)]
        for org, req in missing[:_REPAIRS_PER_ROUND]:
            await self._produce_again(org, req)

    async def _listed(self) -> dict[tuple[str, str], answers.UnbookedAttempt]:
        """What is finished and not booked in owned shards, of each the oldest up to a page."""
        until_ms = self.clock.now_ms() - self.times.unbooked_margin_ms
        wanted = documents.ListUnbooked(until_ms=until_ms, limit=_PAGE)
        listed: dict[tuple[str, str], answers.UnbookedAttempt] = {}
        for shard in sorted(self.owned()):
            try:
                page = await self.ledger.unbooked(shard, wanted)
            except LedgerNotReady as error:
                _LOG.event(LogEvent.ROUND_WAITS, step="reconcile", partition=shard, error=error)
                continue
            listed |= {(entry.org, entry.req): entry for entry in page.entries}
        return listed

    def _is_missing(self, entry: answers.UnbookedAttempt) -> bool:
        return is_missing(
            entry,
            self.produced_ms.get((entry.org, entry.req), 0),
            self.watermarks.passed_ms.get(self.ledger.shards.of(entry.org), 0),
            self.times.unbooked_margin_ms,
        )

    async def _produce_again(self, org: str, req: str) -> None:
        known = await self.ledger.look(documents.Look(org=org, req=req))
        if known.booked or not known.outcome:
            return
        again = outcome_again(known.outcome)
        await self.producer.deliver([again], self.clock.monotonic_s() + _PRODUCE_WITHIN_S)
        self.produced_ms[org, req] = self.clock.now_ms()
        self.metrics.count("tallygate_reconciled_outcomes_total")
        _LOG.event(LogEvent.OUTCOME_PRODUCED_AGAIN, request_id=req, org=org)
