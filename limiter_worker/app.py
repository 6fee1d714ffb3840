"""The limiter's composition root."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from limiter_worker.admission import Admission, Left
from limiter_worker.audit_trail import AuditTrail
from limiter_worker.background import Background
from limiter_worker.closed_shards import ClosedShards
from limiter_worker.culprits import Culprits
from limiter_worker.deferral import WaitingCounts
from limiter_worker.delay_queue import DelayQueue
from limiter_worker.effects import Effects
from limiter_worker.external_budget.counted import CountedSpend
from limiter_worker.external_budget.external_budget import ExternalBudget
from limiter_worker.fair_intake import FairIntake
from limiter_worker.flex_queue import FlexQueue
from limiter_worker.late_config import LateConfig
from limiter_worker.long_ago import LongAgo
from limiter_worker.reaper import Reaper
from limiter_worker.replies import ReplySender
from limiter_worker.settings import LimiterSettings
from limiter_worker.taken import Taken
from schemas import topics
from schemas.events import RequestFinished
from schemas.ledger import documents
from schemas.ledger.errors import LedgerUnavailable
from schemas.ledger.keys import BACKEND_HEALTH, CONFIG_APPLIED
from schemas.readiness import DEGRADED
from schemas.runtime.budget_service import budget_service
from schemas.runtime.kafka.consume.flow import Bounds
from schemas.runtime.kafka.outcome_lookup import OutcomeLookup, Unproved
from schemas.runtime.process.worker import Worker, WorkerShape
from schemas.runtime.valkey.store import text_pairs

_READ = topics.READ_BY["limiter_worker"]
_SHAPE = WorkerShape(
    role="limiter_worker",
    produces=(
        topics.DISPATCH,
        topics.OUTCOMES,
        topics.AUDIT,
        *topics.DEFERRED_DELAYS_MS,
        *map(topics.dead_letters_of, _READ),
    ),
)
_PARKED_MAX = 65_536
"""Background records under way: those of one organization must not keep another's from being read."""
_PARKED_SPAN_MAX = 5_000_000
"""One flex record that waits for a day must not keep what stands behind it from being read."""
_DEFERRED = Bounds(records_max=65_536, bytes_max=256 * 1024 * 1024)
"""Records of a tier under way: none is paused before the room is full, and then none begins to wait."""


class _Limiter:
    """The parts, and the ways between them."""

    def __init__(self, worker: Worker, settings: LimiterSettings) -> None:
        clock, producer, metrics = worker.clock, worker.producer, worker.metrics
        self.worker = worker
        self.replies = ReplySender(worker.bus, clock, metrics)
        self.culprits = Culprits(
            worker.ledger, producer, self.replies, worker.dead_letters, metrics, clock
        )
        self.trail = AuditTrail(producer, clock)
        self.execution = Effects(producer, self.replies, self.trail, self.culprits)
        self.waiters = WaitingCounts()
        self.budget = _external_budget(worker, settings, self.trail, self.again)
        self.admission = Admission(
            ledger=worker.ledger,
            execution=self.execution,
            waiters=self.waiters,
            config=worker.config,
            culprits=self.culprits,
            metrics=metrics,
            clock=clock,
            defaults=settings.default_limits,
            budget=self.budget,
            ended_kept_ms=settings.times.ledger.terminal_kept_ms,
            has_room=lambda: not self.room.is_full,
        )
        self.outcomes = OutcomeLookup(settings.kafka_brokers)
        worker.before_stop.append(self.outcomes.stop)
        self.long_ago = LongAgo(self._has_ended, self.admission.drop, self.again)
        self.late = LateConfig(worker.config, clock, self.again)
        self.closed = ClosedShards(worker.ledger.shard_of, clock, self.again)
        self.intake = FairIntake(self.admission, clock, self.route_to_background, self.closed.heed)
        self.flex = FlexQueue(
            self.admission, clock, lambda: self.intake.is_behind, self.route, self._told
        )
        self.background = Background(
            self.admission, clock, lambda: self.intake.is_behind, self.route, self.flex.push
        )
        self.room = DelayQueue(self.admission, self.waiters, clock, self.again)
        self.reaper = Reaper(worker.ledger, producer, self.replies, metrics, settings.times)

    async def _has_ended(self, org: str, request_id: str) -> bool | None:
        try:
            known = await self.worker.ledger.look(documents.Look(org=org, req=request_id))
        except LedgerUnavailable:
            return None
        if known.kept_missing:
            return None
        if known.state:
            return False  # It answers for itself, as to any copy: jobs are remembered for days.
        found = await self.outcomes.find_outcome(org, request_id)
        return None if isinstance(found, Unproved) else isinstance(found, RequestFinished)

    async def _told(self) -> tuple[dict[str, str], dict[str, str]]:
        """What dispatchers say of backends, and which processes there are. Raises what ``Store`` raises."""
        store = self.worker.ledger_store
        reports = (store.call("HGETALL", name) for name in (BACKEND_HEALTH, CONFIG_APPLIED))
        health, applied = await asyncio.gather(*reports)
        return text_pairs(health), text_pairs(applied)

    def again(self, taken: Taken) -> None:
        """The request is to be decided now, behind its like."""
        (self.background if taken.may_be_parked else self.intake).push(taken)

    def route(self, left: Left) -> bool:
        """Takes requests that wait for the configuration or the log, and those that are deferred."""
        if left.why == "config":
            self.late.add(left.taken)
        elif left.why == "budget":
            return self.budget.add(left.taken)
        elif left.why == "forgotten":
            self.long_ago.add(left.taken)
        elif left.why == "deferred":
            self.room.push(left.taken.record, left.due_ms)
        else:
            return False
        return True

    def route_to_background(self, left: Left) -> bool:
        """Takes background work to its own place as well, however it came here."""
        if left.why == "limit":
            self.background.push(left.taken)
            return True
        return self.route(left)

    async def close(self) -> None:
        """Before the process stops: what waits for long goes to whoever comes next, the rest ends.

        Whoever took the partitions over reads all of it again; then only what is under way here ends.
        """
        await self.closed.forget()
        if self.worker.has_left:
            waiting = (self.intake, self.late, self.long_ago, self.background, self.flex, self.room)
            for waits in (*waiting, self.budget):
                await waits.forget()
        else:
            await self.long_ago.forget()
            await self.background.close()
            await self.flex.close()
            await self.room.close()
        for ends in (
            self.budget,
            self.intake,
            self.execution,
            self.culprits,
            self.trail,
            self.replies,
        ):
            await ends.settled()
        await self.budget.close()

    def components(self) -> dict[str, str]:
        """Which bounds are reached, and what waits for a cause of its own."""
        is_full = self.intake.is_behind or self.room.is_full
        waiting = len(self.intake) + len(self.room)
        return {
            "queue": f"{DEGRADED}{waiting} requests wait" if is_full else "ok",
            "parked": f"{DEGRADED}{len(self.late)} requests wait for the configuration"
            if len(self.late)
            else "ok",
            "shards": f"{DEGRADED}{len(self.closed)} requests wait for their shard of the ledger"
            if len(self.closed)
            else "ok",
            "budget_service": f"{DEGRADED}it does not answer for {silent} organizations"
            if (silent := self.budget.standing.silent(self.worker.clock.monotonic_s()))
            else "ok",
            "replies": f"{DEGRADED}full, replies are dropped" if self.replies.is_full else "ok",
        }


def _external_budget(
    worker: Worker, settings: LimiterSettings, trail: AuditTrail, again: Callable[[Taken], None]
) -> ExternalBudget:
    return ExternalBudget(
        service=budget_service(settings),
        counted=CountedSpend(worker.ledger, worker.ledger_store, worker.clock),
        config=worker.config,
        trail=trail,
        clock=worker.clock,
        metrics=worker.metrics,
        again=again,
    )


def create_app(settings: LimiterSettings) -> Worker:
    """All parts of the limiter, wired; nothing runs yet."""
    worker = Worker.create(settings, _SHAPE)
    parts = _Limiter(worker, settings)
    ends = parts.culprits.end_record
    parked = Bounds(records_max=_PARKED_MAX, span_max=_PARKED_SPAN_MAX)
    worker.read(topics.REQUESTS, parts.intake.handle, on_defect=ends)
    worker.read(topics.BACKGROUND, parts.background.handle, on_defect=ends, bounds=parked)
    worker.read(topics.DEFERRED_1S, parts.room.handle, on_defect=ends, bounds=_DEFERRED)
    worker.read(topics.DEFERRED_10S, parts.room.handle, on_defect=ends, bounds=_DEFERRED)
    worker.read(topics.DEFERRED_60S, parts.room.handle, on_defect=ends, bounds=_DEFERRED)
    waiting = (parts.late, parts.closed, parts.long_ago, parts.background, parts.flex, parts.room)
    for waits in (parts.intake, parts.budget, *waiting):
        worker.app.on_partitions_revoked.connect(waits.forget, weak=False)
    worker.background += [
        parts.replies.run,
        parts.trail.run,
        parts.late.run,
        parts.long_ago.run,
        parts.intake.run,
        parts.closed.run,
        parts.background.run,
        parts.flex.run,
        parts.room.run,
        parts.reaper.run,
    ]
    worker.before_drain.append(parts.close)
    worker.checks.append(parts.components)
    return worker
