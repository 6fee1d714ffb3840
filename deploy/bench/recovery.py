"""When latency is normal again after an overload: by the p99 of each second. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from deploy.bench.connection import OK
from deploy.bench.report import Sample, latency

TIMES_NORMAL: Final = 2.0
SLACK_MS: Final = 20.0
"""A p99 of one second is of few samples: this much above twice the normal one is normal, too."""


def p99_by_second(samples: Iterable[Sample]) -> list[float]:
    """The p99 of requests planned in each second; one that failed, or a second without any, is infinitely late."""
    planned: dict[int, list[Sample]] = {}
    for sample in samples:
        planned.setdefault(int(sample.planned_s), []).append(sample)
    return [_p99_ms(planned.get(second, ())) for second in range(max(planned, default=-1) + 1)]


def recovered_after_s(p99s_ms: Sequence[float], normal_ms: float) -> float:
    """Seconds until all later ones are normal; infinite when the last one is not."""
    bound_ms = max(TIMES_NORMAL * normal_ms, normal_ms + SLACK_MS)
    late = [second for second, p99_ms in enumerate(p99s_ms) if p99_ms > bound_ms]
    if not late:
        return 0.0
    return float("inf") if late[-1] == len(p99s_ms) - 1 else float(late[-1] + 1)


def _p99_ms(samples: Sequence[Sample]) -> float:
    if not samples or any(sample.outcome != OK for sample in samples):
        return float("inf")
    spread = latency(sample.latency_s for sample in samples)
    return spread.p99_ms if spread else float("inf")
