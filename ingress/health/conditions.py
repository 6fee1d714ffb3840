"""Decides when what stands behind ingress takes no new requests: an empty or full ledger, a full disk. Pure.

What is not known is not full: a store that does not answer refuses by itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from ingress.health.fleet import LastSeen, Moment
from schemas.reports import read_disk_report

LEDGER_FULL: Final = 0.8
_DISK_KNOWN_FOR_S: Final = 30.0
_AWAY: Final = "its server does not answer"
_NO_BOOKS: Final = "empty or being rebuilt"
_BEHIND: Final = "another store has it by now"


def closed_shards(
    metas: Iterable[Sequence[bytes | None] | None], epochs: Mapping[int, int]
) -> dict[int, str]:
    """Why shards decide nothing, from ``ready``, ``why`` and ``epoch`` of the ``meta`` of each, ``None`` without
    an answer, and from the epochs that the log announced."""
    states = {n: _closed(meta, epochs.get(n, 0)) for n, meta in enumerate(metas)}
    return {shard: why for shard, why in states.items() if why is not None}


def _closed(meta: Sequence[bytes | None] | None, announced: int) -> str | None:
    if meta is None:
        return _AWAY
    ready, why, epoch = meta
    if ready == b"1":
        return None if announced <= int(epoch or 0) else _BEHIND
    return _NO_BOOKS if why is None else f"{why.decode(errors='replace')}, being rebuilt"


def all_closed(closed: Mapping[int, str], count: int) -> str | None:
    """Why no shard of so many decides anything; ``None`` while one does."""
    return "; ".join(sorted(set(closed.values()))) if closed and len(closed) == count else None


def shards_told(closed: Mapping[int, str]) -> dict[str, str]:
    """The bound that names closed shards, by their cause."""
    causes = sorted(set(closed.values()))
    told = (f"{why}: {', '.join(str(n) for n in closed if closed[n] == why)}" for why in causes)
    return {"ledger_shards": "; ".join(told)} if closed else {}


def ledger_fullness(memories: Iterable[str]) -> str | None:
    """The fullest server's part, from ``INFO memory`` of each, when it is above the mark."""
    share, most = max(map(_fullness, memories), default=(0.0, 0))
    return None if share < LEDGER_FULL else f"{share:.0%} of {most} bytes"


def _fullness(info: str) -> tuple[float, int]:
    """Which part is used, and of how many bytes."""
    fields = dict(line.split(":", 1) for line in info.split() if ":" in line)
    used, most = fields.get("used_memory", ""), fields.get("maxmemory", "")
    if not used.isdigit() or not most.isdigit() or int(most) == 0:
        return 0.0, 0
    return int(used) / int(most), int(most)


def disks_free(disks: Mapping[str, str]) -> dict[str, int]:
    """Free bytes by host, from the same lines."""
    lines = ((host, line.split()) for host, line in disks.items())
    return {host: int(fields[0][:18]) for host, fields in lines if fields and fields[0].isdigit()}


def low_disk(
    disks: Mapping[str, str], seen: LastSeen, now: Moment, free_min_bytes: int
) -> str | None:
    """The first broker that has less than that left, from lines ``<free> <total> <unix ms>``."""
    for host, line in sorted(disks.items()):
        if (disk := read_disk_report(line)) is None:
            continue
        is_known = seen.age_s(host, line, disk.at_ms, now) <= _DISK_KNOWN_FOR_S
        if is_known and disk.free_bytes < free_min_bytes:
            return f"{host} has {disk.free_bytes} bytes left"
    return None
