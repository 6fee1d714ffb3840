"""A replay reads no faster than it was told, and says how far it is."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from deploy.replay.pace import Pace, read_plan
from tests.unit.replay.scene import ReplayScene, outcome

pytestmark = pytest.mark.timeout(20)


async def test_a_rate_is_kept(tmp_path: Path) -> None:
    """Forty records at a hundred a second take four tenths of one, in small pieces."""
    scene = ReplayScene(tmp_path / "replay.sqlite3")
    await scene.append(*(outcome(n) for n in range(40)))
    plan, began_s, sizes = scene.plan(), time.monotonic(), list[int]()

    async with scene.opened() as checkpoint:
        pace = Pace(plan.records, per_s=100.0)
        async for _, piece in read_plan(scene.log, plan, checkpoint, pace):
            sizes.append(len(piece))

    assert time.monotonic() - began_s >= 0.4
    assert (sum(sizes), pace.measure()) == (40, (40, 40))
    assert max(sizes) <= 20


async def test_what_retention_took_meanwhile_is_counted(tmp_path: Path) -> None:
    """A gap before the first record that is still there, and one to the end of the plan."""
    scene = ReplayScene(tmp_path / "replay.sqlite3")
    await scene.append(*(outcome(n) for n in range(10)))
    plan = scene.plan()
    (partition,) = [p for p in scene.log.partitions if p.topic == plan.topic]
    kept = scene.log.partitions[partition]

    async with scene.opened() as checkpoint:
        scene.log.partitions[partition] = kept[4:8]
        async for _ in read_plan(scene.log, plan, checkpoint, Pace(plan.records)):
            pass
        counts = checkpoint.counts()

    assert (counts["read"], counts["gone"]) == (4, 6)


async def test_what_was_read_before_is_not_paid_for_again(tmp_path: Path) -> None:
    """A replay that goes on is as fast as one that begins, and its bar goes on, too."""
    scene = ReplayScene(tmp_path / "replay.sqlite3")
    await scene.append(*(outcome(n) for n in range(10)))
    plan = scene.plan()

    async with scene.opened() as checkpoint:
        checkpoint.commit({0: 8})
        pace = Pace(plan.records, per_s=10.0)
        began_s = time.monotonic()
        async for _ in read_plan(scene.log, plan, checkpoint, pace):
            pass

    assert time.monotonic() - began_s < 0.6
    assert pace.measure() == (10, 10)
