"""How a worker process starts: settings, logging, event loop, and the exit status."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import TypeVar

from schemas.log_events import LogEvent
from schemas.runtime.config.feed import ConfigUnavailable
from schemas.runtime.kafka.produce import ProduceFailed
from schemas.runtime.process.collector import calm_collector
from schemas.runtime.process.event_log import EventLog
from schemas.runtime.process.log_lines import configure_logging
from schemas.runtime.process.loop_counts import loop_factory
from schemas.runtime.process.settings import WorkerSettings, log_settings, read_settings
from schemas.runtime.process.worker import Worker
from schemas.runtime.valkey.store import StoreUnavailable

_LOG = EventLog(__name__)
EXIT_UNAVAILABLE = 69

S = TypeVar("S", bound=WorkerSettings)


def run_worker(role: str, wanted: type[S], create_app: Callable[[S], Worker]) -> None:
    """Run a worker until it is told to stop; does not return.

    Exit status 2: bad settings; 69: Kafka or a store is away at start, so that a supervisor tries
    again.
    """
    settings = read_settings(wanted)
    configure_logging(role, settings.log_level)
    log_settings(settings)
    calm_collector()

    async def run() -> int:
        return await create_app(settings).run()

    try:
        with asyncio.Runner(loop_factory=loop_factory(counting=settings.count_loop)) as runner:
            status = runner.run(run())
    except (StoreUnavailable, ConfigUnavailable, ProduceFailed, TimeoutError) as error:
        _LOG.event(LogEvent.CANNOT_START, error=error)
        status = EXIT_UNAVAILABLE
    sys.exit(status)
