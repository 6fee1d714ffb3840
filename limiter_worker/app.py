"""The limiter's composition root."""

from __future__ import annotations

from limiter_worker.admission import Admission
from limiter_worker.reaper import Reaper
from limiter_worker.settings import LimiterSettings
from limiter_worker.terms import DefaultRate
from schemas import topics
from schemas.runtime.worker import Worker, WorkerShape

_SHAPE = WorkerShape(
    role="limiter_worker",
    produces=(topics.DISPATCH, topics.OUTCOMES, topics.dead_letters_of(topics.REQUESTS)),
    stuck_after_s=720.0,
)
_BATCHES_UNDER_WAY = 4
"""While one batch waits for the broker, the next ones are decided."""


def create_app(settings: LimiterSettings) -> Worker:
    """All parts of the limiter, wired; nothing runs yet."""
    worker = Worker.create(settings, _SHAPE)
    admission = Admission(
        ledger=worker.ledger,
        producer=worker.producer,
        bus=worker.bus,
        config=worker.config,
        dead_letters=worker.dead_letters,
        metrics=worker.metrics,
        clock=worker.clock,
        default_rate=DefaultRate(settings.rate_limit_default_rps, settings.rate_limit_burst_size),
    )
    worker.read(topics.REQUESTS, admission.handle, batches_under_way=_BATCHES_UNDER_WAY)
    worker.background.append(Reaper(worker.ledger, worker.producer, worker.metrics).run)
    return worker
