"""`make moved-clocks`: what clients see while the clock of one process is wrong.

`python -m tests.chaos.moved_clocks [--processes a,b] [--offsets-ms ...]` runs one stack. Each process's wall
clock is moved under load by 2 s, 11 s and 10 min in both directions, and set right again under load; then
processes are started with wrong clocks; then a day ends while several clocks are wrong. Exit code 1 when
anything but 200 was answered where nothing was spent and the ledger's own clock stood, or when the books differ.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from schemas.times import DAY_MS
from tests.chaos.movable_stack import Scene, running_scene
from tests.chaos.moved_load import Load, Tally

OWN = ("ingress-0", "limiter_worker-0", "dispatcher-0", "accounting-0", "batches-0", "admin-0")
STORES = ("kafka", "ledger", "bus")
OFFSETS_MS = (2_000, -2_000, 11_000, -11_000, 600_000, -600_000)
AT_MIDNIGHT_MS = (
    {"limiter_worker-0": 2_000, "ingress-0": -11_000, "kafka": 600_000},
    {"limiter_worker-0": -2_000, "dispatcher-0": 11_000, "accounting-0": -600_000},
)
_PER_S = 15.0
_BEFORE_S = 0.7
_MOVED_S = 3.5
_AFTER_S = 1.3
_MIDNIGHT_IN_MS = 9_000
_LEDGER_JUMP_MS = 60_000
_LINE = "{:<28} {:>9} {:<44} {:>8} {:>6} {:>10}"


@dataclass
class Table:
    """The rows so far, printed as they come."""

    scene: Scene
    is_right: bool = True
    _calls: int = field(default=0)

    def head(self) -> None:
        """The first line."""
        columns = "clock of", "ms off", "answers", "p99 ms", "calls", "difference"
        print(_LINE.format(*columns), flush=True)

    async def row(
        self, name: str, off_ms: int, tally: Tally, allowed: tuple[str, ...] = ()
    ) -> None:
        """One measurement: backend calls too many or too few, and the books' difference."""
        difference = await self.scene.difference()
        calls = len(self.scene.backend.calls())
        extra, self._calls = calls - self._calls - tally.calls, calls
        self.is_right &= all(status.startswith(("200", *allowed)) for status in tally.statuses)
        self.is_right &= extra == 0 and difference == 0
        cells = name, off_ms, str(tally), f"{tally.p99_ms:.0f}", f"{extra:+d}", str(difference)
        print(_LINE.format(*cells), flush=True)


async def _while_running(scene: Scene, table: Table, name: str, off_ms: int, load: Load) -> None:
    """The clock goes wrong and right again, both under load."""
    running = asyncio.create_task(load.run(_BEFORE_S + _MOVED_S + _AFTER_S))
    await asyncio.sleep(_BEFORE_S)
    scene.stack.move(name, off_ms)
    await asyncio.sleep(_MOVED_S)
    scene.stack.move(name, 0)
    # Buckets charged in a time that was taken back are empty; and deadlines are in the ledger's time, so
    # that its own jump ends what was accepted before it.
    allowed: tuple[str, ...] = ("429",) if name == "ledger" else ()
    allowed += ("503", "504") if allowed and abs(off_ms) > _LEDGER_JUMP_MS else ()
    await table.row(name, off_ms, await running, allowed)


async def _from_the_start(scene: Scene, table: Table, name: str, off_ms: int, load: Load) -> None:
    """The process is started with a wrong clock."""
    scene.stack.move(name, off_ms)
    await scene.stack.restart(name)
    await table.row(f"{name}, started so", off_ms, await load.run(_MOVED_S))
    scene.stack.move(name, 0)


async def _at_the_days_end(scene: Scene, table: Table, org: str, wrong_ms: dict[str, int]) -> None:
    """Everything stands near midnight, some clocks wrong; a budget per day is spent on both sides of it."""
    limits = {"budgets": [{"usd": "0.002", "period": "day"}], "on_limit": "reject"}
    key = await scene.key(org, limits)
    now_ms = time.time_ns() // 1_000_000
    to_midnight_ms = DAY_MS - now_ms % DAY_MS - _MIDNIGHT_IN_MS
    midnight_s = time.monotonic() + _MIDNIGHT_IN_MS / 1_000
    for name in (*OWN, *STORES):
        scene.stack.move(name, to_midnight_ms + wrong_ms.get(name, 0))
    await asyncio.sleep(_MIDNIGHT_IN_MS / 1_000 - _MOVED_S)
    tally = await Load(scene.stack.api_url, key, 2 * _PER_S, ("whole", "stream")).run(2 * _MOVED_S)
    text = ", ".join(f"{name} {off_ms:+d}" for name, off_ms in wrong_ms.items())
    print(f"day's end, {text}:", flush=True)
    for side, is_after in (("before", False), ("after", True)):
        counts = {
            status[:40]: sum((at_s >= midnight_s) == is_after for at_s in moments)
            for status, moments in sorted(tally.at_s.items())
        }
        print(f"  {side} midnight: {counts}", flush=True)
    passed = [at_s for at_s in tally.at_s.get("200", []) if at_s >= midnight_s]
    table.is_right &= bool(passed)
    if passed:
        print(
            f"  first 200 of the new day after {1_000 * (min(passed) - midnight_s):.0f} ms",
            flush=True,
        )
    await table.row("day's end", 0, tally, allowed=("402", "429"))
    for name in (*OWN, *STORES):
        scene.stack.move(name, 0)


async def play(processes: list[str], offsets_ms: list[int]) -> bool:
    """Run everything on one stack; whether all of it was as it should be."""
    with tempfile.TemporaryDirectory(prefix="tallygate-clocks-") as folder:
        async with running_scene(Path(folder)) as scene:
            load = Load(scene.stack.api_url, await scene.key("steady", {}), _PER_S)
            table = Table(scene)
            table.head()
            await table.row("none", 0, await load.run(_MOVED_S))
            for name in processes:
                for off_ms in offsets_ms:
                    await _while_running(scene, table, name, off_ms, load)
            for name in (name for name in processes if name in OWN):
                for off_ms in (min(offsets_ms), max(offsets_ms)):
                    await _from_the_start(scene, table, name, off_ms, load)
            for number, wrong_ms in enumerate(AT_MIDNIGHT_MS):
                await _at_the_days_end(scene, table, f"day-{number}", wrong_ms)
            return table.is_right


def main() -> int:
    """Read the command line, run, report."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--processes", default=",".join((*OWN, *STORES)), help="comma-separated")
    options.add_argument("--offsets-ms", default=",".join(map(str, OFFSETS_MS)))
    chosen = options.parse_args()
    offsets_ms = [int(text) for text in chosen.offsets_ms.split(",")]
    is_right = asyncio.run(play(chosen.processes.split(","), offsets_ms))
    print("as it should be" if is_right else "NOT as it should be")
    return 0 if is_right else 1


if __name__ == "__main__":
    sys.exit(main())
