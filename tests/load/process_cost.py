"""What processes cost: CPU time and resident memory, read from /proc (Linux)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
# Positions in /proc/<pid>/stat after the command name, which is cut off with its parentheses.
_UTIME, _STIME, _RSS = 11, 12, 21


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
            stat = Path(f"/proc/{pid}/stat").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
        fields = stat.rpartition(")")[2].split()
        cpu_s = (int(fields[_UTIME]) + int(fields[_STIME])) / _TICKS_PER_S
        readings[name] = Reading(cpu_s, int(fields[_RSS]) * _PAGE_BYTES)
    return readings


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
