"""The frames of a request: numbered, repeated until stored, dropped when nobody waits."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import cast

import pytest

from dispatcher import replies as replies_module
from dispatcher.replies import ReplyStream, Room
from schemas.frames import Chunk, Frame, Started, Terminal
from schemas.runtime.valkey.bus import Bus, Long
from schemas.runtime.valkey.store import StoreError, StoreUnavailable


@dataclass
class _FakeBus:
    """Fails as told, then stores."""

    connection: int = 1
    failures: list[Exception] = field(default_factory=list)
    stored: list[tuple[Frame, str | None, bool]] = field(default_factory=list)
    of_jobs: list[bool] = field(default_factory=list)
    longs: list[Long | None] = field(default_factory=list)

    async def send(
        self,
        frame: Frame,
        reply_to: str | None,
        *,
        kept: bool = False,
        long: Long | None = None,
        of_job: bool = False,
    ) -> bool:
        if self.failures:
            raise self.failures.pop(0)
        self.stored.append((frame, reply_to, kept))
        self.of_jobs.append(of_job)
        self.longs.append(long)
        return True


def _stream(bus: _FakeBus, *, kept: bool = False) -> ReplyStream:
    give_up_at_s = time.monotonic() + 5
    return ReplyStream(cast("Bus", bus), "r1", "ing:i0", 9, kept, give_up_at_s)


async def test_frames_are_numbered_from_one_under_their_fence() -> None:
    """So that the store refuses repeated and stale ones."""
    bus = _FakeBus()
    replies = _stream(bus)
    for body in (b"a", b"b"):
        assert await replies.send(Chunk(body))

    assert [frame for frame, _, _ in bus.stored] == [
        Frame("r1", 9, 1, Chunk(b"a")),
        Frame("r1", 9, 2, Chunk(b"b")),
    ]
    assert {to for _, to, _ in bus.stored} == {"ing:i0"}


async def test_a_frame_waits_for_the_bus_under_its_own_number() -> None:
    """A skipped number would tear the client's stream."""
    bus = _FakeBus(failures=[StoreUnavailable("away")])
    replies = _stream(bus)

    assert await replies.send(Chunk(b"a"))
    assert await replies.send(Chunk(b"b"))
    assert bus.stored == []
    assert await replies.wait()
    assert [(frame.seq, frame.content) for frame, _, _ in bus.stored] == [
        (1, Chunk(b"a")),
        (2, Chunk(b"b")),
    ]


async def test_a_bus_that_came_back_empty_gets_the_newest_frames_again() -> None:
    """A reader may have missed what was announced just before."""
    bus = _FakeBus()
    replies = _stream(bus)
    await replies.send(Chunk(b"a"))
    bus.stored.clear()
    bus.connection += 1
    await replies.send(Chunk(b"b"))

    assert [frame.seq for frame, _, _ in bus.stored] == [1, 2]


async def test_only_so_much_waits_for_the_bus_and_all_of_it_is_stored() -> None:
    """Beyond that the backend has to wait; afterwards nothing is counted any more."""
    bus = _FakeBus(failures=[StoreUnavailable("away")])
    replies = _stream(bus)
    await replies.send(Chunk(b"a" * 2**20))
    was_full = replies.is_full
    await replies.send(Chunk(b"b"))
    is_full = replies.is_full
    await replies.wait()

    assert (was_full, is_full, replies.is_full) == (False, True, False)
    assert replies.room == Room()


async def test_frames_that_come_too_late_tear_the_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    """The end takes the place of the first that is missing."""
    monkeypatch.setattr(replies_module, "GRACE_S", 0.0)
    bus = _FakeBus(failures=[StoreUnavailable("away")] * 2)
    replies = ReplyStream(cast("Bus", bus), "r1", "ing:i0", 9, False, time.monotonic())
    await replies.send(Chunk(b"a"))
    is_whole = await replies.wait()
    await replies.send(Terminal(502))

    assert not is_whole
    assert [(frame.seq, frame.content) for frame, _, _ in bus.stored] == [(1, Terminal(502))]


async def test_a_frame_that_the_bus_refuses_is_not_repeated() -> None:
    """No repetition mends a refusal."""
    bus = _FakeBus(failures=[StoreError("ERR")])

    with pytest.raises(StoreError):
        await _stream(bus).send(Chunk(b"a"))
    assert bus.stored == []


@pytest.mark.parametrize("kept", [False, True])
async def test_what_is_fetched_later_is_kept(kept: bool) -> None:
    """Jobs and keyed requests."""
    bus = _FakeBus()
    await _stream(bus, kept=kept).send(Chunk(b"a"))

    assert bus.stored[0][2] is kept


@pytest.mark.parametrize("of_job", [False, True])
async def test_what_no_key_keeps_is_that_of_a_job(of_job: bool) -> None:
    """Its frames stay as long as somebody may come back to them, and no longer."""
    bus = _FakeBus()
    stream = _stream(bus, kept=True)
    stream.of_job = of_job
    await stream.send(Chunk(b"a"))

    assert bus.of_jobs == [of_job]


async def test_what_a_job_repeats_is_counted_with_its_stream() -> None:
    """It stands on the bus as long."""
    bus = _FakeBus()
    stream = _stream(bus, kept=True)
    for content in (Started("b", (), b"x" * 1_000), Chunk(b"ab"), Terminal(200)):
        await stream.send(content)

    assert [long and long.size_bytes for long in bus.longs] == [None, None, 1_002]
