"""Waits that end: deadlines, absent brokers, clients that leave, and frames that do not fit."""

from __future__ import annotations

import asyncio
import gc
import weakref

from ingress.replies.awaited import Awaited, Times
from ingress.replies.mailbox import BUFFER_BYTES, Content, Mailbox, PendingRequests
from ingress.replies.upkeep import Upkeep
from schemas.events import RecordRef
from schemas.frames import Chunk, Frame, Started, Terminal, encode_frame
from tests.support.gateway import MemoryBus

REF = RecordRef(topic="t", partition=0, offset=0)
AWAITED = Awaited("acme", "r", 0, is_stream=True)
BIG = Chunk(b"x" * (BUFFER_BYTES // 2))


def _frames(*contents: Content) -> list[Frame]:
    return [Frame("r", 1, number, content) for number, content in enumerate(contents, start=1)]


class _Waiting:
    """A request that has waited for ``age_s``."""

    def __init__(self, *, is_produced: bool, age_s: float = 0.0) -> None:
        loop = asyncio.get_running_loop()
        opened_s = loop.time() - age_s
        self.bus = MemoryBus()
        self.pending = PendingRequests()
        self.upkeep = Upkeep(self.pending, self.bus)  # type: ignore[arg-type]
        self.produced: asyncio.Future[RecordRef] = loop.create_future()
        if is_produced:
            self.produced.set_result(REF)
        self.client_left = asyncio.Event()
        times = Times(opened_s, opened_s + 10.0, opened_s + 60.0)
        self.mailbox = self.pending.open(AWAITED, self.client_left.wait, times, self.produced)

    async def take_after_sweep(self) -> Terminal | None:
        """What the request's task gets once the waits were looked after."""
        self.upkeep.sweep(asyncio.get_running_loop().time())
        reader = asyncio.create_task(self.upkeep.catch_up_forever())
        try:
            return await self.mailbox.take_terminal()
        finally:
            reader.cancel()
            self.pending.close(self.mailbox)


async def test_a_wait_ends_soon_after_its_deadline() -> None:
    """504, when no worker has said anything."""
    terminal = await _Waiting(is_produced=True, age_s=61.0).take_after_sweep()

    assert terminal is not None
    assert (terminal.http_status, terminal.error_code) == (504, "deadline_exceeded")


async def test_a_wait_ends_when_the_broker_does_not_acknowledge() -> None:
    """503 after ten seconds, long before the deadline."""
    terminal = await _Waiting(is_produced=False, age_s=10.5).take_after_sweep()

    assert terminal is not None
    assert (terminal.http_status, terminal.error_code) == (503, "service_unavailable")


async def test_a_wait_ends_when_the_client_leaves() -> None:
    """Nobody is left to answer."""
    waiting = _Waiting(is_produced=True, age_s=1.0)
    waiting.client_left.set()

    assert await waiting.take_after_sweep() is None


async def test_a_wait_that_was_watched_is_freed_with_its_end() -> None:
    """By its reference count: the collector would look for it among all that is young."""
    waiting = _Waiting(is_produced=True, age_s=1.0)
    waiting.upkeep.sweep(asyncio.get_running_loop().time())
    await asyncio.sleep(0)
    freed = weakref.ref(waiting.mailbox)
    gc.disable()
    try:
        waiting.pending.close(waiting.mailbox)
        del waiting
        await asyncio.sleep(0.01)
        assert freed() is None
    finally:
        gc.enable()


async def test_a_stalled_wait_reads_its_stream() -> None:
    """A lost announcement delays an answer and never loses it."""
    waiting = _Waiting(is_produced=True, age_s=1.0)
    waiting.bus.streams["r"] = _frames(Terminal(200, body=b"answer"))

    terminal = await waiting.take_after_sweep()

    assert terminal is not None
    assert terminal.body == b"answer"


async def test_a_stream_with_a_hole_breaks_off() -> None:
    """A stream grows at its end only, so what is missing never comes."""
    waiting = _Waiting(is_produced=True, age_s=1.0)
    waiting.bus.streams["r"] = _frames(Started("b", ()), BIG, Terminal(200))[::2]

    terminal = await waiting.take_after_sweep()

    assert terminal is not None
    assert terminal.error_code == "upstream_interrupted"


async def test_a_malformed_frame_is_dropped() -> None:
    """And so is one that nobody waits for; the channel goes on."""
    waiting = _Waiting(is_produced=True)
    waiting.pending.on_message(b"\xc1")
    waiting.pending.on_message(encode_frame(Frame("other", 1, 1, Terminal(200))))
    waiting.pending.on_message(encode_frame(Frame("r", 1, 1, Terminal(200, body=b"mine"))))

    terminal = await waiting.take_after_sweep()

    assert terminal is not None
    assert terminal.body == b"mine"


async def test_a_slow_client_leaves_frames_in_the_stream() -> None:
    """Its mailbox stays bounded, and the rest is asked for once there is room."""
    asked: list[str] = []
    mailbox = Mailbox(AWAITED, Times(0, 10, 60), asked.append)
    frames = _frames(BIG, BIG, BIG, Terminal(200))
    for frame in frames:
        mailbox.offer(frame, is_stored=False)

    assert await mailbox.take() == [BIG, BIG]
    assert asked == ["r"]

    for frame in frames[2:]:
        mailbox.offer(frame, is_stored=True)

    assert await mailbox.take() == [BIG, Terminal(200)]


async def test_frames_of_a_newer_attempt_replace_an_empty_older_one() -> None:
    """The first dispatcher died before it sent content."""
    mailbox = Mailbox(AWAITED, Times(0, 10, 60), lambda _: None)
    mailbox.offer(Frame("r", 1, 1, Started("b1", ())), is_stored=False)
    mailbox.offer(Frame("r", 2, 1, Started("b2", ())), is_stored=False)

    assert await mailbox.take() == [Started("b1", ()), Started("b2", ())]
