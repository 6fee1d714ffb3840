"""A dispatcher's request path on a real ledger and a real bus, with backends in the test's own loop.

Only Kafka is left out: records are handed over by the test, and what is produced is collected.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import msgspec

from accounting.booking import entry_of
from dispatcher.abort import DrainCap
from dispatcher.attempts.failover import Failover
from dispatcher.backends.registry import Backends
from dispatcher.backends.slots import Slots
from dispatcher.claims.claiming import Claiming
from dispatcher.claims.leases import Leases
from dispatcher.handler import Dispatching
from dispatcher.settlement.answering import Answering
from dispatcher.settlement.closing import Closing
from dispatcher.settlement.recording import Recording
from dispatcher.settlement.settling import Settling
from dispatcher.settlement.unreadable import Unreadable
from dispatcher.upstream.bodies import BodySource
from dispatcher.upstream.upstreams import Upstreams
from schemas.claim_check import without_payload
from schemas.codec import decode, decode_as, encode
from schemas.config_state import Snapshot
from schemas.entities import Backend, Model, Target
from schemas.events import (
    AttemptAdjusted,
    Hold,
    RecordRef,
    RequestAccepted,
    RequestAdmitted,
    RequestFinished,
)
from schemas.failures import Poison
from schemas.frames import Frame
from schemas.hold_facts import info_of
from schemas.ledger import documents, keys
from schemas.outgoing import Outgoing
from schemas.runtime.config.feed import ConfigFeed
from schemas.runtime.kafka.consume.dead_letters import DeadLetters
from schemas.runtime.kafka.consume.records import Record
from schemas.runtime.kafka.outcome_lookup import Absent, Ending, OutcomeLookup
from schemas.runtime.kafka.produce import ProduceFailed, Producer
from schemas.runtime.kafka.record_reader import RecordReader, RecordUnreadable
from schemas.runtime.kafka.results import Results
from schemas.runtime.ledger.client import LedgerClient, ledger_store
from schemas.runtime.process.clock import Clock
from schemas.runtime.process.telemetry import Metrics
from schemas.runtime.valkey.bodies import Bodies
from schemas.runtime.valkey.bus import Bus
from schemas.topics import OUTCOMES
from tests.support.events import ACCEPTED_AT, DISPATCHED_AT, NOW_MS, accepted, admitted
from tests.support.harness.ledger_server import LedgerServer
from tests.support.one_shard import META_KEY, ONE_SHARD, SHARD
from tests.support.scripted_backend import Answer, backend

DEADLINE_MS = 20_000
HELD_NANO_USD = 5_000_000
_DAY_MS = 86_400_000
CONFIG_OFFSET = 7


@dataclass
class CollectedLog:
    """Takes the place of the producer."""

    records: list[Outgoing] = field(default_factory=list)
    refuses: str = ""
    """A topic to which no record is taken."""
    is_away: bool = False
    """No broker answers; whoever waits is told that it took too long, at once."""

    async def deliver(self, records: Sequence[Outgoing], deadline_s: float) -> None:
        if self.is_away:
            raise ProduceFailed("no broker")
        self.records += records

    def send(self, record: Outgoing) -> asyncio.Future[RecordRef]:
        acknowledged: asyncio.Future[RecordRef] = asyncio.get_running_loop().create_future()
        if record.topic == self.refuses:
            acknowledged.set_exception(Poison("too large"))
            return acknowledged
        if self.is_away:
            acknowledged.set_exception(ProduceFailed("no broker"))
            return acknowledged
        place = RecordRef(topic=record.topic, partition=0, offset=len(self.records))
        self.records.append(record)
        acknowledged.set_result(place)
        return acknowledged

    async def read(self, ref: RecordRef, within_s: float) -> bytes | None:
        return self.records[ref.offset].value

    async def find_outcome(self, org: str, request_id: str) -> Ending:
        """The first outcome in it, as a look-up finds it."""
        ends = (each for each in self.outcomes if each.request_id == request_id)
        return next(ends, Absent())

    async def stop(self) -> None:
        """Nothing is connected."""

    @property
    def outcomes(self) -> list[RequestFinished]:
        return [
            decode_as(r.value, RequestFinished)
            for r in self.records
            if dict(r.headers).get("ce_type", b"").endswith(b"request.finished.v1")
        ]

    @property
    def corrections(self) -> list[AttemptAdjusted]:
        return [
            decode_as(r.value, AttemptAdjusted)
            for r in self.records
            if dict(r.headers)["ce_type"].endswith(b"attempt.adjusted.v1")
        ]


@dataclass
class LateConfig:
    """Takes the place of the config feed; ``awaited`` comes into force once somebody waits for it."""

    snapshot: Snapshot
    awaited: Snapshot | None = None

    async def wait_for(self, offset: int, deadline_s: float) -> bool:
        self.snapshot = self.awaited or self.snapshot
        return self.snapshot.offset >= offset


@dataclass
class RequestsLog:
    """Takes the place of the reader of single records."""

    records: dict[int, bytes] = field(default_factory=dict)
    reads: int = 0

    async def read(self, ref: RecordRef, within_s: float) -> bytes:
        self.reads += 1
        if ref.offset not in self.records:
            raise RecordUnreadable("gone")
        return self.records[ref.offset]


@dataclass
class Handed:
    """A record as handlers see it."""

    value: bytes | None
    finished: asyncio.Event = field(default_factory=asyncio.Event)
    topic: str = DISPATCHED_AT.topic
    ref: Any = DISPATCHED_AT
    headers: dict[str, bytes] = field(default_factory=dict)
    key: bytes = b""
    partition: int = DISPATCHED_AT.partition
    offset: int = DISPATCHED_AT.offset
    timestamp_ms: int = NOW_MS
    held: str | None = None

    def finish(self) -> None:
        self.finished.set()

    def hold(self, cause: str) -> None:
        self.held = cause


@dataclass
class Bench:
    """The dispatcher under test, and what it touched."""

    dispatching: Dispatching
    backends: Backends
    leases: Leases
    ledger: LedgerClient
    bus: Bus
    log: CollectedLog
    requests: RequestsLog

    async def admit(self, limit: int | None = None, **more: Any) -> RequestAdmitted:
        """A request whose worst case is on hold."""
        now_ms = time.time_ns() // 1_000_000
        request = accepted(accepted_at_ms=now_ms, deadline_ms=now_ms + DEADLINE_MS, **more)
        holds = [
            _hold(now_ms, "nano_usd", HELD_NANO_USD, limit),
            _hold(now_ms, "tokens", 1_500),
            _hold(now_ms, "requests", 1),
        ]
        await self.ledger.admit(
            documents.Admit(
                org=request.org,
                req=request.request_id,
                deadline_ms=request.deadline_ms,
                accepted_ms=now_ms,
                info=info_of(request, ACCEPTED_AT).encoded(),
                balances=tuple(_balance(hold) for hold in holds),
            )
        )
        return admitted(request, encode(request), holds=holds)

    async def admit_large(self, *, on_bus: bool, in_log: bool) -> RequestAdmitted:
        """A request whose body did not come with its admission."""
        body = b'{"messages":[{"role":"user","content":"' + b"x" * 100_000 + b'"}]}'
        whole = await self.admit(payload=body)
        request = decode_as(whole.accepted, RequestAccepted)
        if on_bus:
            assert await Bodies(self.bus).put(request, request.accepted_at_ms)
        if in_log:
            self.requests.records[whole.accepted_ref.offset] = whole.accepted
        bare = encode(without_payload(request))
        return msgspec.structs.replace(whole, accepted=bare, payload_elsewhere=True)

    async def hand_over(self, request: RequestAdmitted) -> Handed:
        """Deliver its record; returns at once."""
        record = Handed(encode(request))
        await self.dispatching.handle([cast("Record", record)])
        return record

    async def dispatch(self, request: RequestAdmitted) -> RequestFinished:
        """Deliver its record and wait for its end; the outcome."""
        record = await self.hand_over(request)
        await asyncio.wait_for(record.finished.wait(), 15)
        (outcome,) = self.log.outcomes
        return outcome

    async def book(self) -> None:
        """Book the log, as accounting does; it holds outcomes of one organization."""
        entries = []
        for offset, record in enumerate(self.log.records):
            event = decode(record.value)
            assert isinstance(event, RequestFinished | AttemptAdjusted)
            ref = RecordRef(topic=OUTCOMES, partition=0, offset=offset)
            entries.append(entry_of(event, ref, NOW_MS))
        rows = tuple(entry.row for entry in entries)
        await self.ledger.book(documents.Book(org=entries[0].org, partition=0, rows=rows))

    async def balance(self, request: RequestAdmitted, unit: str) -> tuple[int, int]:
        """What is settled and what is reserved of the unit."""
        (key,) = (hold.key for hold in request.holds if hold.unit == unit)
        stored = await self.ledger._store.call(  # a foreign look into the store
            "HMGET", keys.of_org(SHARD, request.org, key), "settled", "reserved"
        )
        settled, reserved = (int(value or 0) for value in stored)
        return settled, reserved

    async def frames(self, request: RequestAdmitted) -> list[Frame]:
        """What a reader finds in the request's stream."""
        return await self.bus.read(request.request_id, "0-0")


def _hold(now_ms: int, unit: str, amount: int, limit: int | None = None) -> Hold:
    return Hold(
        key=keys.balance_suffix(f"org/{unit}", "month"),
        unit=unit,
        amount=amount,
        limit=limit,
        start_ms=now_ms - _DAY_MS,
        end_ms=now_ms + _DAY_MS,
    )


def _balance(hold: Hold) -> documents.Balance:
    return msgspec.convert(msgspec.to_builtins(hold), documents.Balance)


@asynccontextmanager
async def bench(
    server: LedgerServer,
    *,
    timeout_s: float = 10.0,
    bus_server: LedgerServer | None = None,
    **answers: Answer | str,
) -> AsyncIterator[Bench]:
    """A dispatcher whose model echo leads to these backends, the first one with all the weight.

    An answer that is a string is the URL of a backend that the test runs itself. Without a server of its
    own the bus is the ledger's.
    """
    async with AsyncExitStack() as running:
        urls = {
            name: answer
            if isinstance(answer, str)
            else await running.enter_async_context(backend(answer))
            for name, answer in answers.items()
        }
        store = ledger_store(server.url)
        await store.start()
        running.push_async_callback(store.stop)
        await store.call("FLUSHALL")
        await store.call("HSET", META_KEY, "epoch", "1", "ready", "1", "test_clock", "1")
        bus = Bus(f"redis://127.0.0.1:{(bus_server or server).port}/1")
        await bus.start()
        await bus.store.call("FLUSHDB")
        running.push_async_callback(bus.stop)
        upstreams = Upstreams({}, Clock())
        running.push_async_callback(upstreams.stop)
        yield _wired(LedgerClient(store, ONE_SHARD), bus, upstreams, _config(urls, timeout_s))


def _config(urls: dict[str, str], timeout_s: float) -> ConfigFeed:
    targets = tuple(Target(backend=name, weight=int(place == 0)) for place, name in enumerate(urls))
    snapshot = Snapshot(
        offset=CONFIG_OFFSET,
        models={"echo": Model(backends=targets)},
        backends={name: Backend(url=url, timeout_s=timeout_s) for name, url in urls.items()},
    )
    return cast("ConfigFeed", LateConfig(snapshot))


def _wired(ledger: LedgerClient, bus: Bus, upstreams: Upstreams, config: ConfigFeed) -> Bench:
    clock, metrics, log = Clock(), Metrics(), CollectedLog()
    producer = cast("Producer", log)
    leases = Leases(ledger, DrainCap(max_s=1.0, max_bytes=10_000), "dispatcher-0")
    backends = Backends(config, clock, slots=8)
    slots = Slots(backends, metrics, clock)
    claiming = Claiming(ledger, clock, "dispatcher-0")
    requests = RequestsLog()
    bodies = BodySource(Bodies(bus), cast("RecordReader", requests), clock)
    letters = DeadLetters.through(producer)
    closing = Closing(
        claiming,
        Answering(bus, Results(log), clock),
        Recording(producer, clock),
        Settling(ledger, clock),
        cast("OutcomeLookup", log),
        metrics,
        clock,
    )
    dispatching = Dispatching(
        claiming=claiming,
        failover=Failover(ledger, slots, upstreams, bodies, leases, metrics, clock),
        closing=closing,
        leases=leases,
        unreadable=Unreadable(
            ledger._store,
            lambda: ledger.shards,
            cast("RecordReader", requests),
            closing,
            letters,
            metrics,
        ),
        dead_letters=letters,
        metrics=metrics,
        clock=clock,
        is_fresh=lambda _: False,
    )
    return Bench(dispatching, backends, leases, ledger, bus, log, requests)
