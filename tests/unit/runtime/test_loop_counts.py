"""The counting loop: the same loop, and it knows what it was asked for."""

from __future__ import annotations

import asyncio

import uvloop

from schemas.runtime.process.loop_counts import expose_loop, loop_factory
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
