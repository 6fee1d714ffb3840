"""How a process starts and hears that it shall end: settings, logging, event loop, signals, exit status."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable
from typing import Protocol, TypeVar

from schemas.log_events import LogEvent
from schemas.runtime.config.feed import ConfigUnavailable
from schemas.runtime.kafka.produce import ProduceFailed
from schemas.runtime.process.collector import calm_collector
from schemas.runtime.process.event_log import EventLog
from schemas.runtime.process.log_lines import configure_logging
from schemas.runtime.process.loop_counts import count_calls, loop_factory
from schemas.runtime.process.settings import ProcessSettings, log_settings, read_settings
from schemas.runtime.valkey.store import StoreUnavailable

_LOG = EventLog(__name__)
EXIT_UNAVAILABLE = 69

S = TypeVar("S", bound=ProcessSettings)


class Process(Protocol):
    """What a composition root gives."""

    async def run(self) -> int:
        """Run until the process is told to end; the exit status."""


def run_process(role: str, wanted: type[S], create_app: Callable[[S], Process]) -> None:
    """Run a process until it is told to stop; does not return.

    Exit status 2: bad settings; 69: Kafka or a store is away at start, so that a supervisor tries
    again.
    """
    settings = read_settings(wanted)
    configure_logging(settings.name_in_logs(role), settings.log_level)
    log_settings(settings)
    calm_collector()
    if settings.count_calls:
        count_calls()

    async def run() -> int:
        return await create_app(settings).run()

    try:
        with asyncio.Runner(loop_factory=loop_factory(counting=settings.count_loop)) as runner:
            status = runner.run(run())
    except (StoreUnavailable, ConfigUnavailable, ProduceFailed, TimeoutError) as error:
        _LOG.event(LogEvent.CANNOT_START, error=error)
        status = EXIT_UNAVAILABLE
    sys.exit(status)


def told_to_end() -> asyncio.Event:
    """An event that SIGTERM and SIGINT set from now on."""
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told.set)
    return told
