"""What a load run found, and how it is shown.

Invariants: latencies are those of good answers and of timeouts at their limit, so a stall cannot
hide; everything else that went wrong is counted by kind; no percentile without its sample count.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Final

import msgspec

from deploy.bench.connection import OK, TIMEOUT
from deploy.bench.process_cost import Cost

_EVENTS_AT_THE_END: Final = 2
OK_OR_LATE: Final = (OK, TIMEOUT)
"""Whose latencies count: an error that comes quickly must not flatter them."""


class Sample(msgspec.Struct, frozen=True, array_like=True):
    """One request: how it ended, and how long after its (planned) sending."""

    outcome: str
    latency_s: float
    planned_s: float = 0.0
    """When it was planned, after the start of the run."""
    first_s: float | None = None
    """How long after the plan its body began: of a stream, the time to its first token."""
    events: int = 0
    """Events of a stream."""
    request_id: str = ""
    """The gateway's id, where headers were read."""
    ended_ms: int = 0
    """When it was answered, Unix milliseconds."""
    cause: str = ""
    """Of an error whose body was read: its code and words."""


@dataclass(frozen=True, slots=True)
class Latency:
    """Percentiles in milliseconds, and of how many samples."""

    samples: int
    p50_ms: float
    p90_ms: float
    p99_ms: float
    max_ms: float
    p95_ms: float


@dataclass(frozen=True, slots=True)
class Report:
    """One run."""

    name: str
    duration_s: float
    requests: int
    requests_per_s: float
    """Good answers per second."""
    latency: Latency | None
    errors: dict[str, int]
    processes: dict[str, Cost]
    send_delay: Latency | None = None
    """How late the driver itself sent, in an open loop; part of the latency."""
    reference_cpu_ms: float | None = None
    """What the reference work took before and after the run: how fast the machine was."""
    first: Latency | None = None
    """Time to the first byte of a body: of streams, to their first token."""
    tokens_per_s: float = 0.0
    """Tokens relayed over all streams."""


def make_report(
    name: str,
    samples: Sequence[Sample],
    duration_s: float,
    processes: dict[str, Cost],
    send_delays_s: Sequence[float] = (),
    reference_cpu_ms: float | None = None,
) -> Report:
    """Sum a run up."""
    outcomes = Counter(sample.outcome for sample in samples)
    good = outcomes.pop(OK, 0)
    return Report(
        name=name,
        duration_s=duration_s,
        requests=len(samples),
        requests_per_s=good / duration_s,
        latency=latency(s.latency_s for s in samples if s.outcome in OK_OR_LATE),
        errors=dict(outcomes),
        processes=processes,
        send_delay=latency(send_delays_s),
        reference_cpu_ms=reference_cpu_ms,
        first=latency(s.first_s for s in samples if s.outcome == OK and s.first_s is not None),
        tokens_per_s=sum(tokens_of(s) for s in samples) / duration_s,
    )


def tokens_of(sample: Sample) -> int:
    """Tokens of a stream whose events carry one each; two more end it."""
    return max(0, sample.events - _EVENTS_AT_THE_END)


def latency(seconds: Iterable[float]) -> Latency | None:
    """Percentiles by nearest rank; None without samples."""
    ordered = sorted(seconds)
    if not ordered:
        return None

    def rank_ms(share: float) -> float:
        return ordered[max(0, math.ceil(share * len(ordered)) - 1)] * 1_000

    return Latency(
        len(ordered),
        rank_ms(0.5),
        rank_ms(0.9),
        rank_ms(0.99),
        ordered[-1] * 1_000,
        rank_ms(0.95),
    )


def render_json(
    reports: Sequence[Report],
    counted: Mapping[str, Mapping[str, Mapping[str, float]]] | None = None,
) -> str:
    """All runs as one JSON document, with what a request costs in counts where that was read."""
    runs = [asdict(report) for report in reports]
    return json.dumps({"runs": runs, "counts_per_request": counted or {}}, indent=2)


def render_table(reports: Sequence[Report]) -> str:
    """The runs as a table, and below it what each process cost per request."""
    columns = ("req/s", "p50 ms", "p90 ms", "p99 ms", "max ms", "samples")
    heading = "".join(f"{column:>9}" for column in columns)
    lines = [f"{'run':<16}{heading}  errors"]
    lines += [_run_line(report) for report in reports]
    lines += _process_lines(reports)
    late = [report for report in reports if report.send_delay is not None]
    lines += [
        f"{report.name}: the driver itself sent late by p99 {report.send_delay.p99_ms:.1f} ms,"
        f" max {report.send_delay.max_ms:.1f} ms (contained in the latency)"
        for report in late
        if report.send_delay is not None
    ]
    return "\n".join(lines)


def _run_line(report: Report) -> str:
    spread = report.latency
    measured = (
        f"{spread.p50_ms:>9.1f}{spread.p90_ms:>9.1f}{spread.p99_ms:>9.1f}{spread.max_ms:>9.1f}"
        f"{spread.samples:>9}"
        if spread
        else f"{'-':>9}" * 4 + f"{0:>9}"
    )
    errors = ", ".join(f"{kind} {count}" for kind, count in sorted(report.errors.items()))
    return f"{report.name:<16}{report.requests_per_s:>9.1f}{measured}  {errors or 'none'}"


def _process_lines(reports: Sequence[Report]) -> list[str]:
    names = list(dict.fromkeys(name for report in reports for name in report.processes))
    if not names:
        return []
    heading = "".join(f"{report.name:>16}" for report in reports)
    lines = ["", f"{'CPU ms/request':<20}{heading}{'RSS MiB':>10}"]
    for name in names:
        found = [report.processes.get(name) for report in reports]
        cells = "".join(f"{_cpu(cost):>16}" for cost in found)
        rss_mib = max(cost.rss_mib for cost in found if cost is not None)
        lines.append(f"{name:<20}{cells}{rss_mib:>10.0f}")
    return [*lines, ""]


def _cpu(cost: Cost | None) -> str:
    if cost is None or cost.cpu_ms_per_request is None:
        return "-"
    return f"{cost.cpu_ms_per_request:.2f} ({cost.cpu_share:.0%})"
