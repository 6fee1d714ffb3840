"""Counts what a process does: figures per request that a busy machine does not move.

Only where ``TALLYGATE_COUNT_LOOP`` or ``TALLYGATE_COUNT_CALLS`` is set, as benchmarks do; otherwise a
process runs the plain loop and pays nothing. Wake-ups are the kernel's own count and need no hook.
"""

from __future__ import annotations

import asyncio
import resource
import sys
import threading
from collections.abc import Callable, Coroutine
from types import FrameType
from typing import Any, Final

import uvloop

from schemas.runtime.process.telemetry import Metrics

__all__ = ["count_calls", "expose_loop", "loop_factory"]

_CALLS: Final = ("call", "c_call")


class CountingLoop(uvloop.Loop):
    """The loop, counting tasks, timers and futures."""

    def __init__(self) -> None:
        super().__init__()
        self.tasks = self.timers = self.futures = 0
        self.set_task_factory(_counted_task)  # type: ignore[arg-type]  # its stub knows no subclass

    def call_later(  # type: ignore[override]  # its stub binds the types of the arguments
        self, delay: float, callback: Callable[..., Any], *args: Any, context: Any = None
    ) -> asyncio.TimerHandle:
        """A timer; ``call_at`` ends here too."""
        self.timers += 1
        return super().call_later(delay, callback, *args, context=context)

    def create_future(self) -> asyncio.Future[Any]:
        """A future."""
        self.futures += 1
        return super().create_future()


def _counted_task(
    loop: CountingLoop, work: Coroutine[Any, Any, Any], **more: Any
) -> asyncio.Task[Any]:
    loop.tasks += 1
    return asyncio.Task(work, loop=loop, **more)


class CallCounter:
    """Calls of functions, in Python and from Python into C; a coroutine that goes on is called again."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, _frame: FrameType, event: str, _arg: object) -> None:
        """What the interpreter tells a profiler."""
        if event in _CALLS:
            self.calls += 1


def count_calls() -> None:
    """Count the calls of this thread and of those that are started later; the process takes twice the CPU."""
    counter = CallCounter()
    threading.setprofile(counter)
    sys.setprofile(counter)


def loop_factory(*, counting: bool) -> Callable[[], asyncio.AbstractEventLoop]:
    """What makes the process's event loop."""
    return CountingLoop if counting else uvloop.new_event_loop


def expose_loop(metrics: Metrics) -> None:
    """Export the counts of the running loop. Called, and scraped, in the loop's own thread."""
    metrics.total(
        "tallygate_loop_wakeups_total", lambda: resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw
    )
    if isinstance(counter := sys.getprofile(), CallCounter):
        metrics.total("tallygate_calls_total", lambda: counter.calls)
    loop = asyncio.get_running_loop()
    if isinstance(loop, CountingLoop):
        metrics.total("tallygate_tasks_total", lambda: loop.tasks)
        metrics.total("tallygate_timers_total", lambda: loop.timers)
        metrics.total("tallygate_futures_total", lambda: loop.futures)
