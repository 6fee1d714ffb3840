"""Scans as processes: their answers, their turns, and that none outlives whoever asked."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import msgspec
import psutil
import pytest

from ingress.admin.finance.verification import VerifyJob
from ingress.admin.log import scans as scans_module
from ingress.admin.log.scans import ScanFailed, Scans, ScanUnavailable
from schemas.runtime.process.clock import Clock

SCRIPT = """
import json, os, sys, time
job = json.loads(sys.stdin.readline())
def write(**line):
    print(json.dumps(line), flush=True)
{body}
"""


class Job(msgspec.Struct, frozen=True):
    name: str = ""


def scans(body: str) -> Scans:
    return Scans(Clock(), (sys.executable, "-c", SCRIPT.format(body=body)))


async def _until_running(own: Scans) -> None:
    async with asyncio.timeout(10):
        while not any(one.total for one in own.running.values()):  # noqa: ASYNC110  # another process says it
            await asyncio.sleep(0.01)


def _children() -> list[psutil.Process]:
    return psutil.Process(os.getpid()).children()


async def test_a_scan_answers_and_is_gone() -> None:
    """With what it was told, by its kind."""
    own = scans("write(answer=[sys.argv[1], job['name']])")

    assert await own.run("verify", Job("a"), 10) == ["verify", "a"]
    assert (own.running, _children()) == ({}, [])


async def test_how_far_a_scan_is_can_be_told_meanwhile() -> None:
    """Its kind, since when, how many of how many."""
    own = scans("write(done=3, total=8); time.sleep(60)")
    running = asyncio.create_task(own.run("verify", Job(), 10))
    await _until_running(own)

    one = own.running["verify"]
    assert (one.kind, one.done, one.total) == ("verify", 3, 8)
    running.cancel()
    await asyncio.wait([running])


async def test_who_leaves_ends_the_process() -> None:
    """Nobody would hear it."""
    own = scans("write(done=1, total=2); time.sleep(60)")
    running = asyncio.create_task(own.run("verify", Job(), 30))
    await _until_running(own)
    running.cancel()
    await asyncio.wait([running])

    assert (own.running, _children()) == ({}, [])


async def test_a_scan_has_a_deadline() -> None:
    """However long it would take."""
    own = scans("time.sleep(60)")

    with pytest.raises(ScanUnavailable, match="not done within"):
        await own.run("verify", Job(), 0.3)
    assert _children() == []


async def test_one_scan_of_a_kind_runs_at_a_time() -> None:
    """The next begins when it has ended; one of another kind does not wait."""
    own = scans("write(answer=[time.time(), time.sleep(0.3), time.time()])")
    first, second, other = await asyncio.gather(
        *(own.run(kind, Job(), 20) for kind in ("verify", "verify", "reconcile"))
    )

    assert second[0] >= first[2]
    assert other[0] < second[0]


async def test_not_many_wait_for_their_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who comes when they are too many is told at once."""
    monkeypatch.setattr(scans_module, "_WAITING_MAX", 1)
    own = scans("write(done=1, total=2); time.sleep(60)")
    under_way = [asyncio.create_task(own.run("verify", Job(), 30))]
    await _until_running(own)
    under_way.append(asyncio.create_task(own.run("verify", Job(), 30)))
    await asyncio.sleep(0)

    with pytest.raises(ScanUnavailable, match="wait"):
        await own.run("verify", Job(), 30)
    for task in under_way:
        task.cancel()
    await asyncio.wait(under_way)


async def test_what_a_scan_could_not_do_is_no_answer() -> None:
    """Neither what it says was away, nor its death."""
    with pytest.raises(ScanUnavailable, match="no broker"):
        await scans("write(unavailable='no broker')").run("verify", Job(), 10)
    with pytest.raises(ScanFailed, match="ended with 3"):
        await scans("os._exit(3)").run("verify", Job(), 10)


async def test_a_verification_without_a_broker_says_so(tmp_path: Path) -> None:
    """The real process, at low priority."""
    job = VerifyJob(
        brokers="127.0.0.1:1",
        ledger_url="redis://127.0.0.1:1/0",
        shards=4,
        folder=str(tmp_path),
        began_ms=0,
        oldest_ms=0,
        from_ms=0,
        deadline_s=1,
        read_within_s=5,
    )

    with pytest.raises(ScanUnavailable, match="KafkaConnectionError"):
        await Scans(Clock()).run("ledger-verify", job, 60)
