"""What processes cost: CPU time by their own clocks, and resident memory from /proc (Linux)."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_RSS = 1
"""Position in /proc/<pid>/statm."""


@dataclass(frozen=True, slots=True)
class Reading:
    """One process at one moment: CPU seconds since its start, resident bytes."""

    cpu_s: float
    rss_bytes: int


@dataclass(frozen=True, slots=True)
class Cost:
    """One process over a run. `cpu_ms_per_request` is None when no request was answered."""

    cpu_ms_per_request: float | None
    cpu_share: float
    """CPU seconds per second of the run; 1.0 is one core."""
    rss_mib: float


def read_processes(pids: Mapping[str, int]) -> dict[str, Reading]:
    """A reading of each named process; a process that is gone is left out."""
    readings = {}
    for name, pid in pids.items():
        try:
            cpu_s = time.clock_gettime(_cpu_clock(pid))
            pages = int(Path(f"/proc/{pid}/statm").read_text().split()[_RSS])
        except OSError:
            continue
        readings[name] = Reading(cpu_s, pages * _PAGE_BYTES)
    return readings


def _cpu_clock(pid: int) -> int:
    """The number of a process's CPU clock, as clock_getcpuclockid(3) makes it; it counts nanoseconds."""
    return (~pid << 3) | 2


def costs(
    before: Mapping[str, Reading], after: Mapping[str, Reading], requests: int, duration_s: float
) -> dict[str, Cost]:
    """The cost of each process that lived through the whole run."""
    return {
        name: _cost(before[name], reading, requests, duration_s)
        for name, reading in after.items()
        if name in before
    }


def parse_pids(text: str) -> dict[str, int]:
    """`name=pid,name=pid`; ValueError when it is not that."""
    pairs = [part.partition("=") for part in text.split(",") if part]
    return {name: int(pid) for name, _, pid in pairs}


def _cost(before: Reading, after: Reading, requests: int, duration_s: float) -> Cost:
    used_s = after.cpu_s - before.cpu_s
    return Cost(
        cpu_ms_per_request=used_s * 1_000 / requests if requests else None,
        cpu_share=used_s / duration_s,
        rss_mib=after.rss_bytes / 2**20,
    )
