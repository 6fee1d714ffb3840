"""The dispatcher's composition root."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from dispatcher.dispatching import Dispatching
from dispatcher.leases import Leases
from dispatcher.settings import DispatcherSettings
from dispatcher.upstreams import Upstreams
from schemas import topics
from schemas.runtime.worker import Worker, WorkerShape

_SHAPE = WorkerShape(
    role="dispatcher",
    produces=(topics.OUTCOMES, topics.dead_letters_of(topics.DISPATCH)),
    stuck_after_s=720.0,
    long_handlers=True,
)
_BATCHES_UNDER_WAY = 8


def create_app(settings: DispatcherSettings, api_keys: Mapping[str, str]) -> Worker:
    """All parts of the dispatcher, wired; nothing runs yet."""
    worker = Worker.create(settings, _SHAPE)
    upstreams = Upstreams(api_keys)
    leases = Leases(worker.ledger)
    dispatching = Dispatching(
        ledger=worker.ledger,
        producer=worker.producer,
        bus=worker.bus,
        config=worker.config,
        upstreams=upstreams,
        leases=leases,
        dead_letters=worker.dead_letters,
        metrics=worker.metrics,
        clock=worker.clock,
        owner=settings.instance_id,
        slots=asyncio.Semaphore(settings.concurrency),
    )
    worker.read(
        topics.DISPATCH,
        dispatching.handle,
        batches_under_way=_BATCHES_UNDER_WAY,
        unfinished_max=2 * settings.concurrency,
    )
    worker.before_start.append(upstreams.start)
    worker.background.append(leases.keep)
    worker.before_stop.append(upstreams.stop)
    return worker
