"""Background work: a defect in it costs a pause and a log line, never the process."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from schemas.runtime.process import tasks
from schemas.runtime.process.tasks import keep_running
from schemas.runtime.process.telemetry import Metrics


def _scripted(*steps: BaseException | None) -> tuple[Callable[[], Awaitable[None]], list[int]]:
    """Work that fails or ends as told, and runs for ever after that."""
    runs: list[int] = []

    async def work() -> None:
        runs.append(len(runs))
        if len(runs) > len(steps):
            await asyncio.Event().wait()
        step = steps[len(runs) - 1]
        if step is not None:
            raise step

    return work, runs


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "_PAUSE_FIRST_S", 0.001)


async def test_work_that_fails_is_started_again() -> None:
    """Whatever it raises, a stray cancellation included, and also when it just ends."""
    work, runs = _scripted(ValueError("odd"), asyncio.CancelledError(), None, OSError())
    metrics = Metrics()
    kept = asyncio.create_task(keep_running("prober", work, metrics))
    await asyncio.sleep(0.1)

    assert runs == [0, 1, 2, 3, 4]
    assert not kept.done()
    assert 'tallygate_task_failures_total{kind="prober"} 4.0' in metrics.page().decode()
    kept.cancel()


async def test_it_ends_when_it_is_cancelled() -> None:
    """And the work with it."""
    work, _ = _scripted()
    kept = asyncio.create_task(keep_running("prober", work, Metrics()))
    await asyncio.sleep(0)
    kept.cancel()

    with pytest.raises(asyncio.CancelledError):
        await kept


async def test_work_that_fails_at_once_does_not_spin() -> None:
    """The pauses grow."""
    work, runs = _scripted(*[ValueError()] * 1_000)
    kept = asyncio.create_task(keep_running("prober", work, Metrics()))
    await asyncio.sleep(0.2)
    kept.cancel()

    assert len(runs) < 10
