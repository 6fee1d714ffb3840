"""A running ingress with its log and bus replaced by memory: the worker behind it is a function."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import httpx
from pydantic import SecretStr

from ingress.app import callers_of, shelf_of
from ingress.endpoints.status import StatusRoutes
from ingress.gatekeeper.gatekeeper import Gatekeeper
from ingress.gatekeeper.log_gate import Conditions
from ingress.gatekeeper.signatures import Signatures
from ingress.health.conditions import shards_told
from ingress.health.document import Health
from ingress.health.fleet import ROLES, Fleet
from ingress.replies.mailbox import PendingRequests
from ingress.replies.upkeep import Upkeep
from ingress.requests.begin import RequestStarter
from ingress.requests.cancellations import Cancellations
from ingress.requests.claims import Claims
from ingress.requests.job_list import JobList
from ingress.requests.lookup import RequestLookup
from ingress.requests.request_desk import RequestDesk
from ingress.requests.resumption import Resumption
from ingress.routes import PublicParts, create_public_app
from ingress.settings import IngressSettings
from schemas.codec import decode_as
from schemas.config_state import Snapshot
from schemas.events import ConfigEntry, RecordRef, RequestAccepted
from schemas.failures import Failure
from schemas.frames import Chunk, Frame, Started, Terminal, encode_frame
from schemas.ledger import answers, documents
from schemas.ledger.errors import LedgerFault, LedgerUnavailable
from schemas.ledger.limit_readings import BalanceReading, LimitReadings
from schemas.ledger.model.ledger import LedgerModel
from schemas.ledger.signatures import SignatureUse
from schemas.ledger.usage_cells import UsageCells
from schemas.outgoing import Outgoing
from schemas.runtime.kafka.produce import ProduceFailed
from schemas.runtime.ledger.client import LedgerClient
from schemas.runtime.process.clock import Clock
from schemas.runtime.process.telemetry import Metrics
from tests.support.configuration import NOW_MS, PEPPER, SECRET, snapshot
from tests.support.memory_log import MemoryRecords, MemoryTraces, MemoryTrails

Content = Started | Chunk | Terminal
Worker = Callable[[RequestAccepted], Sequence[Content]]


class NoBodies:
    """A bus without room for bodies; keeps which were offered."""

    def __init__(self) -> None:
        self.offered: list[str] = []

    async def put(self, request: RequestAccepted, now_ms: int) -> bool:
        self.offered.append(request.request_id)
        return False


class FixedClock(Clock):
    """A clock that stands still."""

    def now_ms(self) -> int:
        """The time of the test configuration."""
        return NOW_MS


class FakeConfig:
    """The test configuration, in force."""

    def __init__(self) -> None:
        self.snapshot: Snapshot = snapshot()
        self.behind_s = 0.0

    def entry(self, kind: str, entity_id: str) -> ConfigEntry | None:
        """No entry is known; the snapshot is all there is."""
        return None


class MemoryBus:
    """Streams in memory."""

    def __init__(self) -> None:
        self.streams: dict[str, list[Frame]] = {}
        self.reads = 0
        self.rung: list[tuple[str, str]] = []

    async def last(self, request_id: str) -> Frame | None:
        """The newest frame."""
        self.reads += 1
        frames = self.streams.get(request_id)
        return frames[-1] if frames else None

    async def tell_cancelled(self, owner: str, request_id: str) -> None:
        """Remember who was told."""
        self.rung.append((owner, request_id))

    async def read(self, request_id: str, after: str, count: int = 256) -> list[Frame]:
        """Frames after a stream id."""
        fence, seq = map(int, after.split("-"))
        frames = self.streams.get(request_id, [])
        return [frame for frame in frames if (frame.fence, frame.seq) > (fence, seq)][:count]


class MemoryLedger:
    """The model of the ledger behind the client's methods, at the time of the test configuration."""

    def __init__(self) -> None:
        self.model = LedgerModel(1)
        self.fails_with_defect = False
        self.is_away = False
        self.signatures: dict[tuple[str, str], int] = {}
        """How long each that was used is remembered."""
        self.usage_hours: dict[tuple[str, str], dict[str, int]] = {}
        self.usage_calls = 0
        self.looks = 0
        """Requests that were asked for because they were silent."""
        self.now_ms = NOW_MS

    def epoch_of(self, org: str) -> int:
        """Which life it is in."""
        return self.model.epoch

    async def claim(self, document: documents.Claim) -> answers.ClaimAnswer:
        """Claim an idempotency key."""
        self._answer()
        return self.model.claim(document, self.now_ms * 1000)

    async def release(self, document: documents.Release) -> answers.ReleaseAnswer:
        """Give it back."""
        self._answer()
        return self.model.claims.release(document)

    async def cancel(self, document: documents.Cancel) -> answers.CancelAnswer:
        """Cancel a request."""
        self._answer()
        return self.model.cancel(document, self.now_ms * 1000)

    async def job(self, document: documents.Job) -> answers.JobAnswer:
        """List a job."""
        self._answer()
        return self.model.jobs.add(document, self.now_ms * 1000)

    async def jobs(self, document: documents.ListJobs) -> answers.Jobs:
        """A page of jobs."""
        self._answer()
        return self.model.list_jobs(document)

    async def look(self, document: documents.Look) -> answers.Look:
        """What is known of a request."""
        self._answer()
        if self.is_away:
            raise LedgerUnavailable("away")
        return self.model.look(document)

    async def look_many(self, batch: Sequence[documents.Look]) -> list[answers.Look | Failure]:
        """What is known of several."""
        self.looks += len(batch)
        return [await self.look(document) for document in batch]

    async def use_signature(
        self, org: str, signature: str, signed_at_ms: int, kept_ms: int
    ) -> SignatureUse:
        """Use it once; nothing is forgotten."""
        self._answer()
        if self.is_away:
            raise LedgerUnavailable("away")
        is_first = (org, signature) not in self.signatures
        self.signatures[org, signature] = kept_ms
        return SignatureUse.FIRST if is_first else SignatureUse.AGAIN

    async def limits(
        self,
        org: str,
        rates: Sequence[documents.Rate],
        leases: Sequence[documents.Lease],
        balances: Sequence[documents.Balance],
    ) -> LimitReadings:
        """What is used of them."""
        self._answer()
        if self.is_away:
            raise LedgerUnavailable("away")
        known = self.model.limits
        buckets = [known.buckets.get((org, rate.key), Fraction(0)) for rate in rates]
        return LimitReadings(
            self.now_ms * 1000,
            [
                (int(at), int((at - int(at)) * rate.rate_milli_per_s))
                for at, rate in zip(buckets, rates, strict=True)
            ],
            [
                sum(until_ms > self.now_ms for until_ms in known.leases[org, lease.key].values())
                for lease in leases
            ],
            [
                BalanceReading(stored["settled"], stored["reserved"] + stored["spare"])
                for stored in (known.balances[org, balance.key] for balance in balances)
            ],
        )

    async def usage(self, org: str, hour: str, cursor: int, count: int) -> UsageCells:
        """Some cells of a usage hour."""
        self._answer()
        if self.is_away:
            raise LedgerUnavailable("away")
        self.usage_calls += 1
        cells = sorted(self.usage_hours.get((org, hour), {}).items())
        until = cursor + count
        return UsageCells(until if until < len(cells) else 0, dict(cells[cursor:until]))

    def _answer(self) -> None:
        if self.fails_with_defect:
            raise LedgerFault("a defect")


class MemoryLog:
    """Takes records as the producer does, and lets the worker answer each at once."""

    def __init__(self, bus: MemoryBus) -> None:
        self.records: list[Outgoing] = []
        self.accepted: list[RequestAccepted] = []
        self.worker: Worker = lambda _: (Terminal(200, body=b"{}"),)
        self.deliver: Callable[[bytes], None] = lambda _: None
        self.is_announcing = True
        """False: frames are stored and nobody is told, as when pub/sub lost them."""
        self.is_away = False
        self.unacknowledged_s = 0.0
        """Age of the oldest record without an acknowledgement."""
        self.arrived = asyncio.Event()
        """The worker has had a request."""
        self._bus = bus

    def send(self, record: Outgoing) -> asyncio.Future[RecordRef]:
        """Queue the record."""
        loop = asyncio.get_running_loop()
        produced: asyncio.Future[RecordRef] = loop.create_future()
        self.records.append(record)
        if self.is_away:
            produced.set_exception(ProduceFailed("away"))
            return produced
        self.accepted.append(decode_as(record.value, RequestAccepted))
        produced.set_result(RecordRef(topic=record.topic, partition=0, offset=0))
        loop.call_soon(self.work, self.accepted[-1])
        return produced

    def work(self, accepted: RequestAccepted) -> None:
        """Let the worker answer."""
        for number, content in enumerate(self.worker(accepted), start=1):
            frame = Frame(accepted.request_id, 1, number, content)
            self._bus.streams.setdefault(accepted.request_id, []).append(frame)
            if self.is_announcing:
                self.deliver(encode_frame(frame))
        self.arrived.set()


class Gateway:
    """The public application over memory, and a client with a valid key."""

    def __init__(self, **settings: Any) -> None:
        self.bus = MemoryBus()
        self.log = MemoryLog(self.bus)
        self.pending = PendingRequests()
        self.upkeep = Upkeep(self.pending, self.bus)  # type: ignore[arg-type]
        self.log.deliver = self.pending.on_message
        self.metrics = Metrics()
        fields: dict[str, Any] = {
            "kafka_brokers": "memory:1",
            "ledger_url": "redis://memory:1",
            "bus_url": "redis://memory:2",
            "data_dir": Path("/nonexistent"),
            "instance_id": "ingress-0",
            "key_pepper": SecretStr(PEPPER.decode()),
        }
        self.ledger = MemoryLedger()
        ledger: LedgerClient = self.ledger  # type: ignore[assignment]
        self.traces = MemoryTraces()
        clock = FixedClock()
        self.cancellations = Cancellations(ledger, self.bus)
        self.records = MemoryRecords()
        self.lookup = RequestLookup(ledger, self.bus, self.traces, self.records, clock)
        self.trails = MemoryTrails(self.records)
        self.requests = RequestDesk(ledger, self.trails, clock)
        made = IngressSettings(**(fields | settings))
        self.shelf = NoBodies()
        self.conditions = Conditions()
        self.config = FakeConfig()
        self.gatekeeper = Gatekeeper.create(
            made,
            self.config,  # type: ignore[arg-type]
            clock,
            self.conditions,
            lambda: self.log.unacknowledged_s,
            callers_of(made),
            Signatures(ledger),
            self.metrics,
        )
        self.gatekeeper.is_open = True
        starter = RequestStarter(
            gatekeeper=self.gatekeeper,
            claims=Claims(ledger, self.lookup, made.idempotency_keys_max),
            jobs=JobList(ledger, made.jobs_max),
            producer=self.log,  # type: ignore[arg-type]
            bodies=self.shelf,  # type: ignore[arg-type]
            pending=self.pending,
            cancellations=self.cancellations,
            resumption=Resumption(ledger, self.lookup, self.bus),
            reply_to="ing:ingress-0",
        )
        self.public = PublicParts(
            self.gatekeeper,
            starter,
            ledger,
            self.lookup,
            self.requests,
            made.deadlines_s,
            made.origins,
            made.default_limits,
            shelf_of(made, clock),
            made.file_bytes_max,
            made.flex_s,
        )
        self.components = {
            "kafka": "ok",
            "bus": "ok",
            "config": "ok",
            "clock": "ok",
            "ledger": "ok",
        }
        self.fleet: Fleet | None = Fleet(
            at_s=0.0,
            workers={role: {f"{role}-0": 0.0} for role in ROLES},
            backends={"b": "healthy"},
            models_without_backend=(),
            models=2,
        )
        status = StatusRoutes(self.health, self.metrics, lambda: len(self.pending))
        self.app = create_public_app(self.public, status, self.metrics)
        self.client = httpx.AsyncClient(
            transport=httpx.ASGITransport(self.app),
            base_url="http://gateway",
            headers={"x-api-key": SECRET},
        )

    def health(self) -> Health:
        """Of the components and the fleet as the test has set them."""
        bounds, closing = self.gatekeeper.bounds_reached(), self.gatekeeper.closing()
        bounds |= shards_told(self.conditions.closed)
        return Health(
            components=self.components,
            bounds=bounds,
            closing=closing,
            fleet=self.fleet,
            now_s=0.0,
            is_leaving=self.gatekeeper.is_leaving,
        )

    async def chat(self, **fields: Any) -> httpx.Response:
        """Post a chat completion."""
        body = {"model": "echo", "messages": [{"role": "user", "content": "hi"}], **fields}
        return await self.client.post("/v1/chat/completions", json=body)
