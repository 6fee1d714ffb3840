"""Ends whose frames were lost: found by asking the ledger, told to the client."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from ingress.replies.awaited import Awaited, Times
from ingress.replies.mailbox import Mailbox
from ingress.requests.silence import Silence
from schemas.codec import encode
from schemas.events import RecordRef
from schemas.frames import Chunk, Frame, Started, Terminal
from schemas.ledger.model.attempts import Attempt
from tests.support.configuration import NOW_MS
from tests.support.gateway import Gateway
from tests.support.outcomes import OUTCOME

REF = RecordRef(topic="t", partition=0, offset=0)
FINISHED = Attempt("FINISHED", outcome=encode(OUTCOME))
WITHOUT_RESULT = Attempt("FINISHED", outcome=encode(msgspec.structs.replace(OUTCOME, result=None)))


async def _never() -> dict[str, str]:
    await asyncio.Event().wait()
    return {}


class _Scene:
    """Requests that wait; the ledger is asked whenever the test says so."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.silence = Silence(
            gateway.pending,
            gateway.ledger,  # type: ignore[arg-type]
            gateway.lookup,
        )
        self.now_s = asyncio.get_running_loop().time()

    def wait(self, request_id: str = "r", *, is_stream: bool = False) -> Mailbox:
        awaited = Awaited("acme", request_id, NOW_MS + 60_000, is_stream)
        times = Times(self.now_s, self.now_s + 10, self.now_s + 60)
        produced: asyncio.Future[RecordRef] = asyncio.get_running_loop().create_future()
        produced.set_result(REF)
        return self.gateway.pending.open(awaited, _never, times, produced)

    def is_in(self, state: Attempt) -> None:
        self.gateway.ledger.model.attempts["acme", "r"] = state

    async def after(self, seconds: float, *, reads_bus: bool = True) -> None:
        """Ask as if so much time had passed since the last time."""
        self.now_s += seconds
        await asyncio.sleep(0)
        self.gateway.upkeep.sweep(self.now_s)
        await self.silence.ask(self.now_s)
        if reads_bus:
            self._read_streams()
        await asyncio.gather(*self.silence._finding)

    def _read_streams(self) -> None:
        """The bus answered, a moment after it was asked."""
        for mailbox in self.gateway.pending.silent(float("inf")):
            mailbox.read_s = self.now_s + 0.1


@pytest.fixture
async def scene() -> _Scene:
    """A gateway whose workers send nothing."""
    return _Scene(Gateway())


async def test_a_lost_answer_is_fetched_from_the_ledger(scene: _Scene) -> None:
    """Seconds after it was given, a minute before the deadline."""
    mailbox = scene.wait()
    scene.is_in(FINISHED)
    await scene.after(2.1)
    assert mailbox.is_silent
    await scene.after(1.6)

    terminal = await mailbox.take_terminal()
    assert terminal is not None
    assert (terminal.http_status, terminal.body) == (200, b"{}")


async def test_a_frame_that_comes_within_the_grace_is_the_answer(scene: _Scene) -> None:
    """The ledger knows of an end before the frame is sent."""
    mailbox = scene.wait()
    scene.is_in(FINISHED)
    await scene.after(2.1)
    mailbox.offer(Frame("r", 1, 1, Terminal(200, body=b"frame")), is_stored=False)
    await scene.after(1.6)

    terminal = await mailbox.take_terminal()
    assert terminal is not None
    assert terminal.body == b"frame"


@pytest.mark.parametrize(
    ("frames", "code"),
    [
        ((), "result_lost"),
        ((Started("b", ()), Chunk(b"data: 1\n\n")), "upstream_interrupted"),
    ],
    ids=["nothing was relayed", "cut"],
)
async def test_a_stream_whose_end_is_lost_ends_with_a_typed_error(
    scene: _Scene, frames: tuple[Started | Chunk, ...], code: str
) -> None:
    """Its events are nowhere else."""
    mailbox = scene.wait(is_stream=True)
    for number, content in enumerate(frames, start=1):
        mailbox.offer(Frame("r", 1, number, content), is_stored=False)
        await mailbox.take()
    scene.is_in(FINISHED)
    scene.gateway.upkeep.sweep(scene.now_s)
    await scene.after(2.1)
    await scene.after(1.6)

    terminal = await mailbox.take_terminal()
    assert terminal is not None
    assert terminal.error_code == code


async def test_what_runs_is_asked_for_every_few_seconds_and_goes_on(scene: _Scene) -> None:
    """Nothing is asked of a request that is younger, or that has just been heard of."""
    mailbox = scene.wait()
    scene.is_in(Attempt("RUNNING"))
    asked = []
    for _ in range(12):
        await scene.after(1.0)
        asked.append(scene.gateway.ledger.looks)

    assert mailbox.is_silent
    assert asked == [0, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 3]


async def test_an_answer_that_only_the_bus_has_is_waited_for_while_the_bus_is_away(
    scene: _Scene,
) -> None:
    """It is lost once the bus was read and did not have it."""
    mailbox = scene.wait()
    scene.is_in(WITHOUT_RESULT)
    await scene.after(2.1, reads_bus=False)
    await scene.after(1.6, reads_bus=False)
    assert mailbox.is_silent
    await scene.after(5.1)
    await scene.after(5.1)

    terminal = await mailbox.take_terminal()
    assert terminal is not None
    assert terminal.error_code == "result_lost"


async def test_one_round_trip_asks_for_a_bounded_number(scene: _Scene) -> None:
    """The others are asked for in the next ones."""
    for number in range(300):
        scene.wait(f"r{number}")
    looks: list[int] = []
    for _ in range(4):
        await scene.after(2.1 if not looks else 0.1, reads_bus=False)
        looks.append(scene.gateway.ledger.looks)

    assert looks == [128, 256, 300, 300]
