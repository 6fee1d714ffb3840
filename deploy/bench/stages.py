"""The stages of a request: how long each took, by the timestamps of its own events. Pure.

Events carry whole milliseconds, so one request's stage may be off by one; the mean over many is not.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean
from typing import Final

from deploy.bench.report import latency

STEPS: Final = ("sent", "accepted", "admitted", "started", "answered", "finished", "replied")
"""In their order: the client sent, ingress accepted, the limiter admitted, the dispatcher called the backend, the
backend had answered, the outcome was decided, the client had its answer."""
Times = Mapping[str, float]
"""When a request took each step, Unix milliseconds; a step that is not known is absent."""


@dataclass(frozen=True, slots=True)
class Stage:
    """From one step to the next, over all requests that took both."""

    name: str
    requests: int
    mean_ms: float
    p50_ms: float
    p99_ms: float


def sums(requests: Iterable[Times]) -> list[Stage]:
    """Each stage in order; one that no request took is left out."""
    known = list(requests)
    stages = []
    for before, after in pairwise(STEPS):
        took_ms = [
            times[after] - times[before] for times in known if before in times and after in times
        ]
        spread = latency(ms / 1_000 for ms in took_ms)
        if spread is not None:
            name = f"{before} -> {after}"
            stages.append(Stage(name, len(took_ms), fmean(took_ms), spread.p50_ms, spread.p99_ms))
    return stages
