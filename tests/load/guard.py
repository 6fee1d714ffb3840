"""What a request costs in counts, against the committed figures: `python -m tests.load.guard [--commit]`.

Requests come one at a time to a stack that counts, so that none is batched with another and the counts are
nearly whole numbers on any machine. What processes do anyway is measured on the idle stack and taken off.
Accounting waits 50 ms for company, so its requests come further apart than that. A count that is too high
is measured again, three times at most: it fails if it is too high each time.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Final

from deploy.bench.connection import OK, PreparedRequest
from deploy.bench.counts import Counts, read_counts
from deploy.bench.process_cost import read_processes
from deploy.bench.reference_work import reference_cpu_ms
from deploy.bench.requests import prepare_mix
from tests.load.alone import run_alone
from tests.load.bench import COUNTING, Target, started
from tests.load.committed import (
    Figures,
    exceeding,
    read_committed,
    render_against,
    typical,
    write_committed,
)
from tests.support.fakes.behaviour import PLAIN_MODEL
from tests.support.fakes.running_backend import running_backend

COUNTING_CALLS: Final = {**COUNTING, "TALLYGATE_COUNT_CALLS": "1"}
ROUNDS: Final = 4
_WARM_UP: Final = 60
_SETTLE_S: Final = 0.5
_IDLE_S: Final = 10.0
"""A whole period of what processes do by themselves."""
_ROLES: Final = ("ingress", "limiter_worker", "dispatcher")
_REQUESTS: Final = 100
_BOOKED_APART: Final = ("accounting",)
_APART: Final = 80
_APART_S: Final = 0.075
_REFERENCES: Final = 50


@dataclass(frozen=True, slots=True)
class Round:
    """One measurement: counts per request by role, and CPU in units of the reference work."""

    figures: Figures
    cpu: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class _Window:
    counts: Mapping[str, Counts]
    seconds: float


@dataclass(frozen=True, slots=True)
class _Load:
    close: _Window
    apart: _Window
    cpu: Mapping[str, float]


async def measure_rounds(
    folder: Path, is_enough: Callable[[Sequence[Round]], bool], most: int = ROUNDS
) -> list[Round]:
    """Start a stack that counts and measure on it until it is enough, or so often."""
    with running_backend("fake", folder / "calls.jsonl") as backend:
        async with started(folder / "guarded", backend, COUNTING_CALLS) as target:
            requests = prepare_mix(target.url, target.key, PLAIN_MODEL, 0.0)
            await run_alone(target.url, requests, _WARM_UP)
            busy = await _load(target, requests)
            # Not earlier: a stack that has just started still does what comes with that.
            idle = await _window(target, asyncio.sleep(_IDLE_S))
            rounds = [_per_request(idle, busy)]
            while len(rounds) < most and not is_enough(rounds):
                rounds.append(_per_request(idle, await _load(target, requests)))
            return rounds


def is_within(committed: Figures) -> Callable[[Sequence[Round]], bool]:
    """Enough is measured when no count is too high each time."""
    return lambda rounds: not exceeding(committed, [one.figures for one in rounds])


async def _load(target: Target, requests: Sequence[PreparedRequest]) -> _Load:
    async def send(count: int, pause_s: float) -> None:
        run = await run_alone(target.url, requests, count, pause_s)
        assert {sample.outcome for sample in run.samples} == {OK}

    before = read_processes(target.pids)
    close = await _window(target, send(_REQUESTS, 0.0))
    after = read_processes(target.pids)
    apart = await _window(target, send(_APART, _APART_S))
    reference_ms = median(reference_cpu_ms() for _ in range(_REFERENCES))
    cpu_ms = {
        role: (after[name].cpu_s - before[name].cpu_s) * 1_000 / _REQUESTS
        for role in (*_ROLES, *_BOOKED_APART)
        for name in (f"{role}-0",)
    }
    return _Load(close, apart, {role: ms / reference_ms for role, ms in cpu_ms.items()})


def _per_request(idle: _Window, busy: _Load) -> Round:
    close = _figures(idle, busy.close, _REQUESTS, _ROLES)
    apart = _figures(idle, busy.apart, _APART, _BOOKED_APART)
    return Round({**close, **apart}, busy.cpu)


async def _window(target: Target, work: Awaitable[None]) -> _Window:
    """What the processes count while something is done, until it is settled."""
    started_s, before = perf_counter(), await read_counts(target.pages)
    await work
    await asyncio.sleep(_SETTLE_S)
    after = await read_counts(target.pages)
    seconds = perf_counter() - started_s
    grown = {
        name: {what: count - before[name][what] for what, count in counts.items()}
        for name, counts in after.items()
    }
    return _Window(grown, seconds)


def _figures(
    idle: _Window, busy: _Window, requests: int, roles: Sequence[str]
) -> dict[str, Counts]:
    share = busy.seconds / idle.seconds
    return {
        role: {
            what: max(0.0, (count - idle.counts[name][what] * share) / requests)
            for what, count in busy.counts[name].items()
        }
        for role in roles
        for name in (f"{role}-0",)
    }


def render_cpu(rounds: Sequence[Round]) -> str:
    """CPU per request of each round in units of the reference work, which is never judged."""
    each = ", ".join(f"{sum(one.cpu.values()):.2f}" for one in rounds)
    return f"CPU of a request while counting, in units of the reference work (not judged): {each}"


def main() -> int:
    """Measure, and commit or compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--commit", action="store_true", help="write the figures anew")
    is_commit = parser.parse_args().commit
    committed = {} if is_commit else read_committed()

    with tempfile.TemporaryDirectory(prefix="tallygate-guard-") as folder:
        enough = (lambda _: False) if is_commit else is_within(committed)
        rounds = asyncio.run(measure_rounds(Path(folder), enough))
    figures = [one.figures for one in rounds]
    print(render_cpu(rounds))
    if is_commit:
        write_committed(typical(figures))
        print(render_against(read_committed(), typical(figures)))
        return 0
    print(render_against(committed, typical(figures)))
    found = exceeding(committed, figures)
    for excess in found:
        print(excess)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
