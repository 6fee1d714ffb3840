"""Frames that nobody reads: bounded per request and per organization, whoever sends them."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from dispatcher import replies
from dispatcher.replies import ReplyStream
from schemas.frames import Chunk, Started, Terminal
from schemas.runtime.valkey import bus as bus_module
from schemas.runtime.valkey.bus import Bus, stream_of
from schemas.times import FULL
from tests.support.harness.ledger_server import LedgerServer

_KIB = 1024


@pytest.fixture
async def bus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bus]:
    monkeypatch.setattr(replies, "_SHORT_BYTES_MAX", 10 * _KIB)
    monkeypatch.setattr(replies, "_KEPT_BYTES_MAX", 50 * _KIB)
    monkeypatch.setattr(bus_module, "_STREAMS_PER_ORG_BYTES_MAX", 100 * _KIB)
    server = LedgerServer(tmp_path)
    server.start()
    bus = Bus(f"redis://127.0.0.1:{server.port}/1")
    await bus.start()
    yield bus
    await bus.stop()
    server.kill()


def _stream(bus: Bus, request_id: str, org: str, *, kept: bool = False) -> ReplyStream:
    return ReplyStream(bus, request_id, None, 1, kept, time.monotonic() + 5, org)


async def _send(stream: ReplyStream, chunks: int) -> None:
    for _ in range(chunks):
        assert await stream.send(Chunk(b"x" * _KIB))


async def test_a_stream_keeps_its_newest_frames_only(bus: Bus) -> None:
    await _send(_stream(bus, "r", "a"), 200)
    frames = await bus.read("r", "0-0")
    assert [frame.seq for frame in frames] == list(range(151, 201))


async def test_a_short_stream_is_kept_whole_and_not_counted(bus: Bus) -> None:
    await _send(_stream(bus, "r", "a"), 10)
    assert len(await bus.read("r", "0-0")) == 10
    assert await bus.store.call("EXISTS", "{counted}bytes") == 0


async def test_an_organization_cannot_fill_the_bus(bus: Bus) -> None:
    for number in range(20):
        await _send(_stream(bus, f"loud-{number}", "loud"), 60)
    await _send(_stream(bus, "quiet", "quiet"), 40)
    assert len(await bus.read("quiet", "0-0")) == 40
    lengths = [len(await bus.read(f"loud-{number}", "0-0")) for number in range(20)]
    assert sum(lengths) < 150
    assert int(await bus.store.call("HGET", "{counted}bytes", "o:loud")) <= 100 * _KIB


async def test_an_ended_stream_counts_for_a_minute_more(bus: Bus) -> None:
    stream = _stream(bus, "r", "a")
    await _send(stream, 20)
    await stream.send(Terminal(http_status=200))
    left_ms = await bus.store.call("PTTL", stream_of("r"))
    due_ms = int(await bus.store.call("ZSCORE", "{counted}due", stream_of("r")))
    assert left_ms <= 60_000
    assert due_ms - time.time() * 1000 < 61_000


async def test_streams_that_are_kept_for_a_day_have_their_share_and_results_have_minutes(
    bus: Bus,
) -> None:
    for number in range(20):
        stream = _stream(bus, f"keyed-{number}", "loud", kept=True)
        await stream.send(Started("backend", ()))
        await _send(stream, 9)
        await stream.send(Terminal(http_status=200))
    assert [frame.seq for frame in await bus.read("keyed-0", "0-0")] == list(range(1, 12))
    left_ms = [await bus.store.call("PTTL", stream_of(f"keyed-{number}")) for number in (0, 19)]
    assert left_ms[0] > 80_000_000
    assert left_ms[1] <= 60_000
    await _stream(bus, "job", "quiet", kept=True).send(Terminal(http_status=200, body=b"x" * 100))
    assert 500_000 < await bus.store.call("PTTL", stream_of("job")) <= 600_000


@pytest.mark.parametrize(
    ("of_job", "kept_ms"), [(False, FULL.streams_kept_ms), (True, FULL.job_streams_kept_ms)]
)
async def test_a_stream_stays_as_long_as_who_asked_for_it_may_come_back(
    bus: Bus, *, of_job: bool, kept_ms: int
) -> None:
    """With a key for a day, as a job for a quarter of an hour."""
    stream = _stream(bus, "r", "a", kept=True)
    stream.of_job = of_job
    for content in (Started("b", ()), Chunk(b"x"), Terminal(200)):
        await stream.send(content)

    left_ms = int(await bus.store.call("PTTL", stream_of("r")))
    assert kept_ms - 10_000 < left_ms <= kept_ms
