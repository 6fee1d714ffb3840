"""The counting loop: the same loop, and it knows what it was asked for."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading

import uvloop

from schemas.runtime.process.loop_counts import count_calls, expose_loop, loop_factory
from schemas.runtime.process.telemetry import Metrics


async def _work() -> str:
    metrics = Metrics()
    expose_loop(metrics)
    before = metrics.page().decode()
    await asyncio.create_task(asyncio.sleep(0.001))
    async with asyncio.timeout(1):
        await asyncio.sleep(0)
    after = metrics.page().decode()
    return "\n".join(line for line in after.splitlines() if line not in before.splitlines())


def test_tasks_timers_and_wake_ups_are_counted_where_asked() -> None:
    """One task, a timer for its sleep and one for the timeout."""
    with asyncio.Runner(loop_factory=loop_factory(counting=True)) as runner:
        page = runner.run(_work())

    assert "tallygate_tasks_total 2.0" in page  # the test's own is the first
    assert "tallygate_timers_total 2.0" in page
    assert "tallygate_loop_wakeups_total" in page


def test_a_loop_that_does_not_count_is_the_plain_one() -> None:
    """Production pays nothing."""
    with asyncio.Runner(loop_factory=loop_factory(counting=False)) as runner:
        page = runner.run(_work())
        assert type(runner.get_loop()) is uvloop.Loop

    assert "tallygate_tasks_total" not in page


def test_calls_are_counted_in_every_thread_where_asked() -> None:
    """Those into C too; a thread of before, like the tests' own, is left alone."""
    pages = []

    def work() -> None:
        count_calls()
        with asyncio.Runner(loop_factory=loop_factory(counting=False)) as runner:
            pages.append(runner.run(_calls_of(10)))
            pages.append(runner.run(_calls_of(110)))

    before = threading.getprofile()
    gc.disable()  # hypothesis listens to collections, in whatever thread they fall
    try:
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    finally:
        gc.enable()
        threading.setprofile(before)

    # Ten rounds: a function of Python and one of C here, and as many in the other thread.
    assert pages[1] - pages[0] == 400
    assert sys.getprofile() is None


async def _calls_of(rounds: int) -> int:
    metrics = Metrics()
    expose_loop(metrics)

    def call() -> None:
        for _ in range(rounds):
            _twice()

    def calls() -> int:
        page = metrics.page().decode()
        (line,) = [each for each in page.splitlines() if each.startswith("tallygate_calls_total ")]
        return int(float(line.split()[1]))

    before = calls()
    call()
    other = threading.Thread(target=call)
    other.start()
    other.join()
    return calls() - before


def _twice() -> int:
    return len("twice")
