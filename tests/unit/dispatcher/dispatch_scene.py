"""The dispatcher's path of one request on the ledger's model, with backends in the test's own loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import msgspec

from dispatcher.abort import DrainCap
from dispatcher.attempts.failover import Failover
from dispatcher.attempts.history import AttemptHistory
from dispatcher.backends.registry import Backends
from dispatcher.backends.slots import Slots
from dispatcher.claims.claiming import Claiming
from dispatcher.claims.leases import Leases, Running
from dispatcher.replies import ReplyStream
from dispatcher.settlement.answering import Answering
from dispatcher.settlement.closing import Closing
from dispatcher.settlement.recording import Recording
from dispatcher.settlement.settling import Settling
from dispatcher.upstream.bodies import BodySource
from dispatcher.upstream.upstreams import Upstreams
from dispatcher.work import AdmittedRequest
from schemas.codec import decode_as
from schemas.config_state import Snapshot
from schemas.entities import Backend, Model, Target
from schemas.events import AttemptAdjusted, RecordRef, RequestFinished
from schemas.frames import Frame, Terminal
from schemas.hold_facts import info_of
from schemas.ledger import answers, documents
from schemas.outgoing import Outgoing
from schemas.runtime.config.feed import ConfigFeed
from schemas.runtime.kafka.consume.records import Record
from schemas.runtime.kafka.outcome_lookup import Absent, Ending, OutcomeLookup
from schemas.runtime.kafka.produce import Producer
from schemas.runtime.kafka.record_reader import RecordReader
from schemas.runtime.kafka.results import Results
from schemas.runtime.process.clock import Clock
from schemas.runtime.process.telemetry import Metrics
from schemas.runtime.valkey.bodies import Bodies
from schemas.runtime.valkey.bus import Bus
from tests.support.events import ACCEPTED_AT, DISPATCHED_AT, accepted, admitted, hold
from tests.support.model_store import ModelStore
from tests.support.scripted_backend import Answer, backend

MONEY = "b:org/nano_usd:2023-11"
HELD_NANO_USD = 5_000_000


class MovableClock(Clock):
    """Wall time that a test moves on; time that passes is real."""

    ahead_ms = 0

    def now_ms(self) -> int:
        return super().now_ms() + self.ahead_ms


@dataclass
class KeptFrames:
    """Takes the place of the bus."""

    connection: int = 1
    store: Any = None
    """No body is kept beside its request here."""
    frames: list[Frame] = field(default_factory=list)

    async def send(self, frame: Frame, *_: Any, **__: Any) -> bool:
        self.frames.append(frame)
        return True

    async def last(self, request_id: str) -> Frame | None:
        mine = [frame for frame in self.frames if frame.request_id == request_id]
        return mine[-1] if mine else None

    @property
    def end(self) -> Terminal:
        """The one end that the client is told."""
        (end,) = [f.content for f in self.frames if isinstance(f.content, Terminal)]
        return end


@dataclass
class KeptLog:
    """Takes the place of the producer, and of the look-up of outcomes in what it produced."""

    records: list[Outgoing] = field(default_factory=list)

    def send(self, record: Outgoing) -> asyncio.Future[RecordRef]:
        delivered: asyncio.Future[RecordRef] = asyncio.get_running_loop().create_future()
        delivered.set_result(RecordRef(topic=record.topic, partition=0, offset=len(self.records)))
        self.records.append(record)
        return delivered

    async def deliver(self, records: Sequence[Outgoing], deadline_s: float) -> None:
        self.records += records

    async def find_outcome(self, org: str, request_id: str) -> Ending:
        return next((end for end in self.outcomes if end.request_id == request_id), Absent())

    async def read(self, ref: RecordRef, within_s: float) -> bytes:
        return self.records[ref.offset].value or b""

    @property
    def outcomes(self) -> list[RequestFinished]:
        return self._of(RequestFinished, b"request.finished.v1")

    @property
    def corrections(self) -> list[AttemptAdjusted]:
        return self._of(AttemptAdjusted, b"attempt.adjusted.v1")

    def _of(self, kind: type[Any], name: bytes) -> list[Any]:
        return [
            decode_as(record.value, kind)
            for record in self.records
            if dict(record.headers)["ce_type"].endswith(name)
        ]


@dataclass
class DispatchScene:
    """The parts under test, and what they touched."""

    store: ModelStore
    bus: KeptFrames
    log: KeptLog
    clock: MovableClock
    claiming: Claiming
    leases: Leases
    failover: Failover
    closing: Closing
    is_fresh: bool = False
    """Whether nobody else was given the records."""

    async def admitted(self, *, limit: int | None = None, **more: Any) -> AdmittedRequest:
        """A request whose worst case is on hold in the ledger."""
        now_ms = self.clock.now_ms()
        times = {"accepted_at_ms": now_ms, "deadline_ms": now_ms + 20_000}
        request = accepted(**(times | more))
        money = msgspec.structs.replace(hold(MONEY, "nano_usd", HELD_NANO_USD), limit=limit)
        balance = documents.Balance(
            key=MONEY, unit="nano_usd", amount=HELD_NANO_USD, limit=limit, start_ms=0
        )
        answer = await self.store.client().admit(
            documents.Admit(
                org=request.org,
                req=request.request_id,
                deadline_ms=request.deadline_ms,
                accepted_ms=now_ms,
                balances=(balance,),
                info=info_of(request, ACCEPTED_AT).encoded(),
            )
        )
        assert isinstance(answer, answers.Admitted)
        admission = admitted(request, holds=[money], admitted_at_ms=now_ms)
        return AdmittedRequest(admission, request, DISPATCHED_AT)

    async def claim(self, job: AdmittedRequest) -> answers.StartAnswer:
        """The verdict on a claim of this process."""
        return await self.claiming.claim(job, self.closing.is_in_log, lambda: self.is_fresh)

    async def run(self, job: AdmittedRequest) -> tuple[AttemptHistory, ReplyStream, Running]:
        """Claim and call; not closed yet."""
        claim = await self.claim(job)
        assert isinstance(claim, answers.Fence)
        with self.leases.held(job, claim) as running:
            replies = self.closing.answering.replies(job, claim.fence)
            history = AttemptHistory.after(job, running.attempt)
            await self.failover.run(job, running, replies, history)
        return history, replies, running

    async def close(
        self, job: AdmittedRequest, run: tuple[AttemptHistory, ReplyStream, Running]
    ) -> None:
        """Close what ran."""
        history, replies, running = run
        await self.closing.close(job, RECORD, history, replies, running)

    async def end(self, job: AdmittedRequest) -> AttemptHistory:
        """Claim, call and close."""
        ran = await self.run(job)
        await self.close(job, ran)
        return ran[0]

    def balance(self) -> tuple[int, int]:
        """Nano-USD that are settled, and that are held."""
        return self.store.balance(MONEY)


RECORD = cast("Record", SimpleNamespace(headers={}, topic=DISPATCHED_AT.topic, key=b"acme"))


@asynccontextmanager
async def dispatch_scene(**backends: Answer) -> AsyncIterator[DispatchScene]:
    """A dispatcher whose model echo leads to these backends, the first one with all the weight."""
    async with AsyncExitStack() as running:
        clock = MovableClock()
        urls = {
            name: await running.enter_async_context(backend(answer))
            for name, answer in backends.items()
        }
        upstreams = Upstreams({}, clock)
        running.push_async_callback(upstreams.stop)
        yield _scene(clock, upstreams, urls)
        await asyncio.sleep(0)


def _scene(clock: MovableClock, upstreams: Upstreams, urls: dict[str, str]) -> DispatchScene:
    store, frames, log, metrics = ModelStore(clock), KeptFrames(), KeptLog(), Metrics()
    ledger, bus = store.client(), cast("Bus", frames)
    targets = tuple(Target(backend=name, weight=int(place == 0)) for place, name in enumerate(urls))
    snapshot = Snapshot(
        offset=7,
        models={"echo": Model(backends=targets)},
        backends={name: Backend(url=url, timeout_s=5.0) for name, url in urls.items()},
    )
    config = cast("ConfigFeed", SimpleNamespace(snapshot=snapshot))
    slots = Slots(Backends(config, clock, 8), metrics, clock)
    leases = Leases(ledger, DrainCap(max_s=1.0, max_bytes=10_000), "dispatcher-0")
    claiming = Claiming(ledger, clock, "dispatcher-0")
    bodies = BodySource(Bodies(bus), cast("RecordReader", log), clock)
    closing = Closing(
        claiming,
        Answering(bus, Results(cast("Any", log)), clock),
        Recording(cast("Producer", log), clock),
        Settling(ledger, clock),
        cast("OutcomeLookup", log),
        metrics,
        clock,
    )
    failover = Failover(ledger, slots, upstreams, bodies, leases, metrics, clock)
    return DispatchScene(store, frames, log, clock, claiming, leases, failover, closing)
