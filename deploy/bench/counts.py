"""What a request costs in things that a busy machine does not move: read from the processes' own metrics.

CPU time moves with the load on the box; wake-ups, tasks, futures, timers, store commands and flushes,
produce requests and bytes do not. They are counts of all work between two readings, so a run should be
long beside what processes do anyway (leases, probes, sweeps).
"""

from __future__ import annotations

from collections.abc import Mapping

import httpx
from prometheus_client.parser import text_string_to_metric_families

COUNTED: Mapping[str, str] = {
    "wake-ups": "tallygate_loop_wakeups_total",
    "tasks": "tallygate_tasks_total",
    "futures": "tallygate_futures_total",
    "timers": "tallygate_timers_total",
    "calls": "tallygate_calls_total",
    "store commands": "tallygate_store_commands_total",
    "store flushes": "tallygate_store_flushes_total",
    "produce requests": "tallygate_produce_requests_total",
    "records": "tallygate_produced_records_total",
    "bytes produced": "tallygate_produced_bytes_total",
}
Counts = dict[str, float]
_READ_WITHIN_S = 5.0


async def read_counts(pages: Mapping[str, str]) -> dict[str, Counts]:
    """The counters of each process, from its metrics page; labels are summed up."""
    read: dict[str, Counts] = {}
    async with httpx.AsyncClient(timeout=_READ_WITHIN_S, trust_env=False) as client:
        for name, url in pages.items():
            text = (await client.get(url)).raise_for_status().text
            read[name] = _sums(text)
    return read


def per_request(
    before: Mapping[str, Counts], after: Mapping[str, Counts], requests: int
) -> dict[str, Counts]:
    """What each process did for one request."""
    return {
        name: {
            what: (counts[what] - before[name].get(what, 0.0)) / requests
            for what in COUNTED
            if what in counts
        }
        for name, counts in after.items()
        if name in before and requests
    }


def render_counts(runs: Mapping[str, Mapping[str, Counts]]) -> str:
    """Runs as one table: a line a process, a column a count."""
    lines = []
    for run, processes in runs.items():
        lines += ["", f"{'per request, ' + run:<28}" + "".join(f"{what:>17}" for what in COUNTED)]
        for name, counts in processes.items():
            cells = "".join(
                f"{counts[what]:>17.2f}" if what in counts else f"{'-':>17}" for what in COUNTED
            )
            lines.append(f"{name:<28}{cells}")
        totals = {
            what: sum(counts.get(what, 0.0) for counts in processes.values()) for what in COUNTED
        }
        lines.append(f"{'all':<28}" + "".join(f"{totals[what]:>17.2f}" for what in COUNTED))
    return "\n".join(lines)


def _sums(page: str) -> Counts:
    names = {metric: what for what, metric in COUNTED.items()}
    sums: Counts = {}
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            if (what := names.get(sample.name)) is not None:
                sums[what] = sums.get(what, 0.0) + sample.value
    return sums
