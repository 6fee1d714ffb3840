"""Replies go out beside everything else, within bounds of number and time."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import cast

import pytest

from limiter_worker.replies import REPLIES_MAX, ReplySender
from schemas.frames import Frame, Terminal
from schemas.runtime.process.clock import Clock
from schemas.runtime.process.telemetry import Metrics
from schemas.runtime.valkey.bus import Bus
from schemas.runtime.valkey.store import StoreError, StoreUnavailable
from tests.support.events import accepted
from tests.support.samples import sample


class _SetClock(Clock):
    s = 100.0

    def monotonic_s(self) -> float:
        return self.s


@dataclass
class _Bus:
    """Fails as it is told, for some requests."""

    sent: list[str] = field(default_factory=list)
    failures: dict[str, Exception] = field(default_factory=dict)

    async def send(self, frame: Frame, reply_to: str | None, *, kept: bool) -> bool:
        if error := self.failures.get(frame.request_id):
            raise error
        self.sent.append(f"{frame.request_id} {reply_to}" + " kept" * kept)
        return True


class _Replies:
    def __init__(self) -> None:
        self.bus, self.clock, self.metrics = _Bus(), _SetClock(), Metrics()
        self.sender = ReplySender(cast("Bus", self.bus), self.clock, self.metrics)

    def offer(self, *names: str) -> None:
        for name in names:
            self.sender.offer(accepted(request_id=name, reply_to="i"), Terminal(429))

    @property
    def dropped(self) -> float:
        return sample(self.metrics, "tallygate_replies_dropped_total")


async def test_the_refusal_of_a_job_is_kept_for_whoever_looks_it_up() -> None:
    """Nobody waits for it on a connection."""
    replies = _Replies()
    job = accepted(request_id="job", reply_to=None, background=True)
    replies.sender.offer(job, Terminal(402))
    await replies.sender.send_waiting()

    assert replies.bus.sent == ["job None kept"]


async def test_replies_keep_their_order_and_share_a_round_trip() -> None:
    """To the ingress that waits for them."""
    replies = _Replies()
    replies.offer("r1", "r2")

    assert await replies.sender.send_waiting()
    assert replies.bus.sent == ["r1 i", "r2 i"]


async def test_a_bus_that_is_away_for_a_moment_costs_a_moment() -> None:
    """Then they go out, in order."""
    replies = _Replies()
    replies.bus.failures = dict.fromkeys(("r1", "r2"), StoreUnavailable("away"))
    replies.offer("r1", "r2")
    assert not await replies.sender.send_waiting()
    replies.bus.failures.clear()

    assert await replies.sender.send_waiting()
    assert (replies.bus.sent, replies.dropped) == (["r1 i", "r2 i"], 0)


async def test_after_a_few_seconds_a_reply_is_dropped() -> None:
    """The outcome stands in the log, and ingress finds it there."""
    replies = _Replies()
    replies.bus.failures["r1"] = StoreUnavailable("away")
    replies.offer("r1")
    replies.clock.s += 3.1

    assert await replies.sender.send_waiting()
    assert (replies.bus.sent, replies.dropped) == ([], 1)


@pytest.mark.parametrize("error", [StoreError("OOM"), ValueError("it cannot be encoded")])
async def test_a_reply_that_fails_for_good_is_dropped_alone(error: Exception) -> None:
    """The next one goes out."""
    replies = _Replies()
    replies.bus.failures["r1"] = error
    replies.offer("r1", "r2")
    await replies.sender.send_waiting()

    assert (replies.bus.sent, replies.dropped) == (["r2 i"], 1)


async def test_more_than_may_wait_are_dropped_at_once() -> None:
    """The memory they take has a bound."""
    replies = _Replies()
    replies.offer(*(f"r{number}" for number in range(REPLIES_MAX + 3)))

    assert replies.sender.is_full
    assert replies.dropped == 3


async def test_few_large_ones_are_bounded_too() -> None:
    """By their bytes."""
    replies = _Replies()
    large = Terminal(500, error_message="x" * 1024 * 1024)
    for _ in range(10):
        replies.sender.offer(accepted(), large)

    assert replies.dropped == 2
    while not replies.bus.sent or len(replies.bus.sent) < 8:
        await replies.sender.send_waiting()
    assert not replies.sender.is_full
