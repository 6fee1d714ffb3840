"""Ways in which Kafka is away or damaged while it is used; each returns once it is back.

Only the stack's own processes are touched, by pid, and the broker's own files.
"""

from __future__ import annotations

import asyncio
import os
import resource
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from tests.chaos.rig import Rig
from tests.support.harness.standing_still import standing_still

_FULL_BYTES: Final = 4_096
"""No file of a broker whose disk counts as full grows beyond it."""
_UNBOOKED_S: Final = 5.0
"""Outcomes of so long stand in the log and in no book when its tail is cut."""
_COMMITTED_S: Final = 1.0


async def killed(rig: Rig, away_s: float) -> str:
    """Nobody is there."""
    async with rig.away("kafka"):
        await asyncio.sleep(away_s)
    return f"killed, away for {away_s:.0f} s"


async def hanging(rig: Rig, away_s: float) -> str:
    """Connections stay open, nothing is answered."""
    with standing_still(*rig.pids_of("kafka")):
        await asyncio.sleep(away_s)
    return f"stood still for {away_s:.0f} s"


async def full(rig: Rig, away_s: float) -> str:
    """Every write fails, as on a full disk; then there is room again."""
    (pid,) = rig.pids_of("kafka")
    with standing_still(rig.stack.process.pid):
        _, most = resource.prlimit(pid, resource.RLIMIT_FSIZE)
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (_FULL_BYTES, most))
        await asyncio.sleep(away_s)
        ended = pid not in rig.pids_of("kafka")
        if not ended:
            os.kill(pid, signal.SIGKILL)
    return f"could not write for {away_s:.0f} s, {'ended of itself' if ended else 'ran on'}"


async def cut(rig: Rig, away_s: float) -> str:
    """Killed, and what it acknowledged last of outcomes, none of it booked, is not on its disk."""
    data = rig.state_dir / "kafka" / "data"
    async with rig.away("accounting"):
        # Its supervisor sleeps too, so the broker that is killed below stays away.
        await asyncio.sleep(_COMMITTED_S)
        before = {path: path.stat().st_size for path in newest_segments(data)}
        await asyncio.sleep(_UNBOOKED_S)
        for pid in rig.pids_of("kafka"):
            os.kill(pid, signal.SIGKILL)
        grown = {path: path.stat().st_size - size for path, size in before.items()}
        for path, more in grown.items():
            # In the middle of a record, as a machine that loses its power does.
            os.truncate(path, before[path] + more // 2)
        await asyncio.sleep(away_s)
    return f"killed, {sum(grown.values()) // 2} of {sum(grown.values())} unbooked bytes of outcomes lost"


def newest_segments(data: Path) -> list[Path]:
    """The segment of each partition of outcomes that is written to."""
    folders = sorted(data.glob("inference.outcomes.v1-*"))
    return [max(folder.glob("*.log")) for folder in folders]


Outage = Callable[[Rig, float], Awaitable[str]]
OUTAGES: Final[dict[str, Outage]] = {
    "killed": killed,
    "hanging": hanging,
    "full": full,
    "cut": cut,
}
