"""The limiter's composition root."""

from __future__ import annotations

from limiter_worker.admission import Admission
from limiter_worker.audit_trail import AuditTrail
from limiter_worker.deferral import Waiters
from limiter_worker.execution import Execution
from limiter_worker.reaper import Reaper
from limiter_worker.settings import LimiterSettings
from limiter_worker.terms import DefaultRate
from limiter_worker.waiting_room import WaitingRoom
from schemas import topics
from schemas.runtime.worker import Worker, WorkerShape

_SHAPE = WorkerShape(
    role="limiter_worker",
    produces=(
        topics.DISPATCH,
        topics.OUTCOMES,
        topics.AUDIT,
        *topics.DEFERRED_DELAYS_MS,
        *map(
            topics.dead_letters_of, (topics.REQUESTS, topics.BACKGROUND, *topics.DEFERRED_DELAYS_MS)
        ),
    ),
    stuck_after_s=720.0,
    # What waits in a deferred topic is unfinished for as long as a minute.
    long_handlers=True,
)
_BATCHES_UNDER_WAY = 4
"""While one batch waits for the broker, the next ones are decided."""


def create_app(settings: LimiterSettings) -> Worker:
    """All parts of the limiter, wired; nothing runs yet."""
    worker = Worker.create(settings, _SHAPE)
    waiters = Waiters()
    trail = AuditTrail(worker.producer, worker.clock)
    admission = Admission(
        ledger=worker.ledger,
        execution=Execution(worker.producer, worker.bus, trail, worker.clock),
        waiters=waiters,
        config=worker.config,
        dead_letters=worker.dead_letters,
        metrics=worker.metrics,
        clock=worker.clock,
        default_rate=DefaultRate(settings.rate_limit_default_rps, settings.rate_limit_burst_size),
    )
    worker.read(topics.REQUESTS, admission.handle, batches_under_way=_BATCHES_UNDER_WAY)
    worker.read(topics.BACKGROUND, admission.handle)
    room = WaitingRoom(admission, waiters, worker.producer, worker.clock)
    worker.read(topics.DEFERRED_1S, room.handle)
    worker.read(topics.DEFERRED_10S, room.handle)
    worker.read(topics.DEFERRED_60S, room.handle)
    worker.app.on_partitions_revoked.connect(room.forget, weak=False)
    worker.background.append(room.run)
    worker.before_drain += [room.close, worker.disown_older_generations]
    worker.background.append(Reaper(worker.ledger, worker.producer, worker.metrics).run)
    return worker
