"""A rate, a quota and a budget at once, each of an organization of its own: the backend says how many calls came through.

More is offered than each allows, faster than any of it comes back. The budget's requests cost exactly what is held for them,
because only output has a price and this backend makes as many tokens as it may, up to eight: so the number that fits is known
beforehand.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import httpx

from deploy.bench.bench import Bench, Measured, Unmeasurable
from deploy.bench.connection import OK
from deploy.bench.figures import Figure, Result

STATED: Final = 40
_RATE_PER_S: Final = 40.0
_SECONDS: Final = 4.0
TOKENS: Final = 5
_OUTPUT_USD_PER_MTOK: Final = 200
PRICES: Final = {"input_usd_per_mtok": "0", "output_usd_per_mtok": str(_OUTPUT_USD_PER_MTOK)}
_USD: Final = f"{STATED * TOKENS * _OUTPUT_USD_PER_MTOK / 1_000_000:.6f}"
_STATED_REFUSALS: Final = ("http_429", "http_402")
_ANSWERS_WITHIN_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class Case:
    """One limit; so many calls are what it states. ``None`` is no limit at all."""

    name: str
    limits: Mapping[str, Any] | None


CASES: Final = (
    # What comes back to the bucket within the run is far less than one request.
    Case("rate", {"requests_per_s": 0.001, "burst": STATED}),
    Case("quota", {"quotas": [{"amount": STATED, "unit": "requests", "period": "month"}]}),
    Case("budget", {"budgets": [{"usd": _USD, "period": "month"}]}),
    Case("neighbour", None),
)


async def run(bench: Bench) -> Result:
    """All of them side by side."""
    if bench.target.stack is None or bench.target.backend_url is None:
        raise Unmeasurable("limits are stated on a stack of the bench's own: leave out --url")
    number = bench.unique()
    found = await asyncio.gather(*(_offered(bench, case, number) for case in CASES))
    calls = await _calls(bench.target.backend_url)
    figures, notes, unstated = [], [], 0
    for case, came in zip(CASES, found, strict=True):
        answered = sum(sample.outcome == OK for sample in came.samples)
        called = calls.get(_model(case, number), 0)
        offered = len(came.samples)
        stated = offered if case.limits is None else STATED
        # Whoever was answered was called for, and nobody else.
        beside = abs(called - stated) + abs(answered - called)
        figures.append(Figure(f"limits.{case.name}", beside))
        notes.append(
            f"{case.name}: {offered} offered, {stated} stated, {called} calls at the backend,"
            f" {answered} answered; refused: {came.report.errors or 'none'}"
        )
        unstated += sum(s.outcome not in (OK, *_STATED_REFUSALS) for s in came.samples)
    figures.append(Figure("limits.unstated", unstated))
    return Result("limits", figures, [came.report for came in found], notes=notes)


async def _offered(bench: Bench, case: Case, number: int) -> Measured:
    model = _model(case, number)
    await bench.target.new_model(model, PRICES)
    key = await bench.target.new_key(model, case.limits or {})
    load = bench.load(
        keys=[key],
        model=model,
        rate_per_s=_RATE_PER_S,
        seconds=_SECONDS,
        max_tokens=TOKENS,
        has_headers=True,
        pids={},
    )
    return await bench.drive(case.name, load)


def _model(case: Case, number: int) -> str:
    """A name that no earlier run had: the backend counts by it."""
    return f"limits-{case.name}-{number}"


async def _calls(backend_url: str) -> Mapping[str, int]:
    async with httpx.AsyncClient(timeout=_ANSWERS_WITHIN_S, trust_env=False) as client:
        answer = await client.get(f"{backend_url}/calls")
    calls: Mapping[str, int] = answer.raise_for_status().json()
    return calls
