"""When requests of an open loop leave: seconds after its start, at a constant rate or as Poisson arrivals. Pure.

An open loop sends as planned whatever the server does, and a latency counts from the plan, so that a stall shows
in every request that should have been sent in it (no coordinated omission).
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Final

CONSTANT: Final = "constant"
POISSON: Final = "poisson"
KINDS: Final = (CONSTANT, POISSON)


def planned_s(kind: str, rate_per_s: float, seconds: float, seed: int) -> tuple[float, ...]:
    """The planned times below `seconds`, in order; equal seeds give equal plans."""
    if kind == POISSON:
        return _poisson_s(rate_per_s, seconds, random.Random(seed))  # noqa: S311 - a load, no secret
    return tuple(number / rate_per_s for number in range(round(rate_per_s * seconds)))


def _poisson_s(rate_per_s: float, seconds: float, rng: random.Random) -> tuple[float, ...]:
    """Gaps between arrivals are independent and exponential, with the mean ``1 / rate``."""
    times: list[float] = []
    at_s = rng.expovariate(rate_per_s)
    while at_s < seconds:
        times.append(at_s)
        at_s += rng.expovariate(rate_per_s)
    return tuple(times)


def lateness_s(plans_s: Sequence[float], sent_s: Sequence[float]) -> list[float]:
    """How late each request left; what a driver could not keep up with is part of every latency."""
    return [max(0.0, sent - plan) for plan, sent in zip(plans_s, sent_s, strict=True)]
