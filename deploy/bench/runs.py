"""Runs scenarios on a gateway, one after another, as often as wanted, and keeps what each found."""

from __future__ import annotations

import asyncio
import os
import platform
import signal
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any

from aiokafka.errors import KafkaError
from httpx import HTTPError

from deploy.bench.bench import Bench, Unmeasurable, Wanted
from deploy.bench.driving import DriverFailed
from deploy.bench.figures import Result, Summary
from deploy.bench.running_backend import bench_backend
from deploy.bench.target import Target, options, own_stack
from deploy.embedded.problem import StackError

BACKENDS = 10
_PROBLEMS = (Unmeasurable, DriverFailed, StackError, KafkaError, HTTPError, TimeoutError)
Tell = Callable[[str], None]


async def run_all(
    target: Callable[[], AbstractAsyncContextManager[Target]],
    wanted: Wanted,
    scenarios: Sequence[str],
    runs: int,
    tell: Tell,
) -> list[Result]:
    """Each scenario in turn, and that so often: what disturbs a while touches one run of several.

    SIGTERM cancels it, so that a stack of its own is ended in order.
    """
    this = asyncio.current_task()
    assert this is not None, "a coroutine runs in a task"
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, this.cancel)
    async with target() as ready:
        bench = Bench(ready, wanted, tell, target if ready.stack is not None else None)
        return [await _one(bench, name) for _ in range(runs) for name in scenarios]


async def _one(bench: Bench, name: str) -> Result:
    """One scenario; that it cannot be measured must not cost the others."""
    module = import_module(f"deploy.bench.scenarios.{name}")
    try:
        result: Result = await module.run(bench)
    except _PROBLEMS as problem:
        why = str(problem) or type(problem).__name__
        return Result(name, (), notes=[f"not measured: {why}"], has_failed=True)
    return result


@asynccontextmanager
async def fresh_target(environment: Mapping[str, str], tell: Tell) -> AsyncIterator[Target]:
    """A stack of the bench's own, ten backends behind it; all of it is gone when the block is left."""
    with (
        tempfile.TemporaryDirectory(
            prefix="tallygate-bench-", ignore_cleanup_errors=True
        ) as folder,
        bench_backend(BACKENDS) as backend,
    ):
        async with own_stack(options(Path(folder) / "state", environment), backend, tell) as target:
            yield target


@asynccontextmanager
async def running_target(target: Target) -> AsyncIterator[Target]:
    """A gateway that runs already."""
    yield target


def facts_here() -> dict[str, str]:
    """The machine that everything ran on."""
    return {
        "machine": f"{os.cpu_count()} cores, {platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "where": "client, gateway, broker, stores and backend share this machine",
    }


def document(
    facts: Mapping[str, str], summaries: Sequence[Summary], results: Sequence[Result]
) -> dict[str, Any]:
    """Everything that was found, for programs."""
    return {
        "facts": dict(facts),
        "figures": [asdict(each) for each in summaries],
        "runs": [asdict(each) for each in results],
    }
