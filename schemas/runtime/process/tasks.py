"""Keeps background work running: a defect in it costs a pause and a log line, never the process."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from schemas.log_events import LogEvent
from schemas.runtime.process.event_log import EventLog
from schemas.runtime.process.telemetry import Metrics

__all__ = ["keep_running"]

_LOG = EventLog(__name__)

_PAUSE_FIRST_S = 0.1
_PAUSE_MAX_S = 30.0
_STEADY_S = 60.0
"""Work that ran so long counts as mended: its next failure pauses briefly again."""


async def keep_running(name: str, work: Callable[[], Awaitable[None]], metrics: Metrics) -> None:
    """Run ``work`` for ever: when it fails or ends, start it again after a growing pause.

    Ends only by cancellation of its own task. A cancellation that ``work`` lets out by mistake is a
    failure like any other.
    """
    pause_s = _PAUSE_FIRST_S
    while True:
        began_s = time.monotonic()
        try:
            await work()
            _LOG.event(LogEvent.TASK_ENDED, step=name, pause_s=pause_s, cause="it ended by itself")
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            _LOG.event(LogEvent.TASK_ENDED, step=name, pause_s=pause_s, error=error)
        except Exception as defect:  # noqa: BLE001  # total: no background work may end the process
            _LOG.event(LogEvent.TASK_ENDED, step=name, pause_s=pause_s, defect=defect)
        metrics.count("tallygate_task_failures_total", name)
        if time.monotonic() - began_s > _STEADY_S:
            pause_s = _PAUSE_FIRST_S
        await asyncio.sleep(pause_s)
        pause_s = min(2 * pause_s, _PAUSE_MAX_S)
