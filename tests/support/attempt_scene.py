"""One attempt without Kafka and ledger: what it sends on is kept for the test to look at."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any, cast

from dispatcher.abort import Abort, DrainCap
from dispatcher.attempts.attempt import AttemptRun
from dispatcher.attempts.dialects import Dialects
from dispatcher.attempts.excess import Excesses
from dispatcher.attempts.token_counts import TokenCounter
from dispatcher.replies import ReplyStream
from dispatcher.upstream.upstreams import Upstreams
from dispatcher.work import AdmittedRequest, Choice
from schemas.events import RequestAccepted
from schemas.frames import Chunk, Frame
from schemas.runtime.process.clock import Clock
from schemas.runtime.process.telemetry import Metrics
from schemas.runtime.valkey.bus import Bus, Long
from tests.support.events import DISPATCHED_AT, NOW_MS, accepted, admitted

CAP = DrainCap(max_s=0.1, max_bytes=10_000)


@dataclass
class FakeBus:
    """Keeps the frames; notes what else happened before them."""

    connection: int = 1
    events: list[object] = field(default_factory=list)
    has_chunk: asyncio.Event = field(default_factory=asyncio.Event)

    async def send(
        self,
        frame: Frame,
        reply_to: str | None,
        *,
        kept: bool,
        long: Long | None = None,
        of_job: bool = False,
    ) -> bool:
        self.events.append(frame.content)
        if isinstance(frame.content, Chunk):
            self.has_chunk.set()
        return True

    @property
    def relayed(self) -> bytes:
        return b"".join(e.body for e in self.events if isinstance(e, Chunk))


class FixedClock(Clock):
    """Wall time stands still."""

    def now_ms(self) -> int:
        return NOW_MS


def asking_for(model: str, **more: Any) -> RequestAccepted:
    """A request for the model."""
    body = {"model": model, "messages": [{"role": "user", "content": "hi"}]}
    return accepted(model=model, payload=json.dumps(body).encode(), **more)


def attempt_run(
    upstreams: Upstreams,
    choice: Choice,
    request: RequestAccepted,
    bus: FakeBus,
    *,
    counter: TokenCounter | None = None,
    dialects: Dialects | None = None,
    excesses: Excesses | None = None,
    owns_fence: bool = True,
    cap: DrainCap = CAP,
) -> AttemptRun:
    """The attempt, ready to run."""

    async def note_streamed() -> bool:
        bus.events.append("noted")
        return owns_fence

    return AttemptRun(
        job=AdmittedRequest(admitted(request), request, DISPATCHED_AT),
        choice=choice,
        number=1,
        replies=ReplyStream(cast("Bus", bus), request.request_id, None, 1, False, 0.0),
        upstreams=upstreams,
        clock=FixedClock(),
        note_streamed=note_streamed,
        abort=Abort(cap),
        counter=counter or TokenCounter(),
        dialects=dialects or Dialects(FixedClock()),
        excesses=excesses or Excesses(dict, Metrics(), FixedClock()),
    )
