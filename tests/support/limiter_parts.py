"""What surrounds admission in tests that run it without Kafka: records, producer, bus, configuration.

Each keeps what it was given, so that a test can look at it; none decides anything.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import cast

from limiter_worker.admission import Admission, Left
from limiter_worker.audit_trail import AuditTrail
from limiter_worker.closed_shards import ClosedShards
from limiter_worker.culprits import Culprits
from limiter_worker.deferral import WaitingCounts
from limiter_worker.effects import Effects
from limiter_worker.external_budget.counted import CountedSpend
from limiter_worker.external_budget.external_budget import ExternalBudget
from limiter_worker.external_budget.standing import Standing
from limiter_worker.fair_intake import FairIntake
from limiter_worker.replies import ReplySender
from limiter_worker.taken import Taken
from schemas.codec import decode, encode
from schemas.config_state import Snapshot
from schemas.events import Event, RecordRef, RequestAccepted
from schemas.failures import Failure
from schemas.frames import Frame
from schemas.ledger import answers, documents
from schemas.ledger.model.ledger import LedgerModel
from schemas.outgoing import Outgoing
from schemas.partitions import partition_of
from schemas.runtime.budget_service import BudgetService
from schemas.runtime.config.feed import ConfigFeed
from schemas.runtime.kafka.consume.dead_letters import DeadLetters
from schemas.runtime.kafka.consume.records import Record
from schemas.runtime.kafka.produce import Producer
from schemas.runtime.ledger.client import LedgerClient
from schemas.runtime.process.clock import Clock
from schemas.runtime.process.telemetry import Metrics
from schemas.runtime.valkey.bus import Bus
from schemas.runtime.valkey.store import Store
from schemas.stated_limits import Defaults
from schemas.topics import REQUESTS
from tests.support.model_store import ModelStore
from tests.support.one_shard import ONE_SHARD

_UNLIMITED = Defaults(1e6, 1_000_000, in_flight=1_000_000)


@dataclass(slots=True)
class FakeRecord:
    """A delivered record that remembers whether its offset may go."""

    value: bytes | None
    offset: int = 0
    topic: str = REQUESTS
    key: bytes = b"acme"
    headers: Mapping[str, bytes] = field(default_factory=dict)
    timestamp_ms: int = 0
    partition: int = 0
    finished: int = 0
    held: str | None = None

    @property
    def is_finished(self) -> bool:
        return self.finished > 0

    @property
    def ref(self) -> RecordRef:
        return RecordRef(topic=self.topic, partition=0, offset=self.offset)

    def finish(self) -> None:
        self.finished += 1

    def hold(self, cause: str) -> None:
        self.held = cause

    def as_record(self) -> Record:
        """For the code under test."""
        return cast("Record", self)


@dataclass(slots=True)
class FakeProducer:
    """A broker that takes everything."""

    produced: list[Outgoing] = field(default_factory=list)

    def send(self, record: Outgoing) -> asyncio.Future[RecordRef]:
        self.produced.append(record)
        delivered: asyncio.Future[RecordRef] = asyncio.get_running_loop().create_future()
        delivered.set_result(RecordRef(topic=record.topic, partition=0, offset=len(self.produced)))
        return delivered

    def partition_for(self, topic: str, key: bytes) -> int:
        """Of twelve, as a producer that is connected knows it."""
        return partition_of(key, 12)

    async def deliver(self, records: Sequence[Outgoing], deadline_s: float) -> None:
        self.produced += records

    def events(self, topic: str) -> list[Event]:
        """What was produced to the topic."""
        return [decode(r.value or b"") for r in self.produced if r.topic == topic]


class ModelLedger(LedgerClient):
    """The real client on the ledger's model; calls on some requests can be made to fail."""

    def __init__(self, clock: Clock | None = None, model: LedgerModel | None = None) -> None:
        self.clock = clock or Clock()
        self.model = model or LedgerModel(epoch=1)
        self.failures: dict[str, Failure] = {}
        self.rounds: list[list[str]] = []
        """The requests of each round trip of admission."""
        self.store = ModelStore(self.clock, self.model)
        super().__init__(cast("Store", self.store), ONE_SHARD)

    async def admit_many(
        self, batch: Sequence[documents.Admit]
    ) -> list[answers.AdmitAnswer | Failure]:
        self.rounds.append([document.req for document in batch])
        found = await super().admit_many([doc for doc in batch if doc.req not in self.failures])
        decided = iter(found)
        return [
            self.failures[doc.req] if doc.req in self.failures else next(decided) for doc in batch
        ]

    def state_of(self, request_id: str, org: str = "acme") -> str:
        return self.store.state_of(request_id, org)


@dataclass(slots=True)
class FakeBus:
    """Keeps the replies."""

    sent: list[Frame] = field(default_factory=list)

    async def send(self, frame: Frame, reply_to: str | None, *, kept: bool = False) -> bool:
        del reply_to, kept
        self.sent.append(frame)
        return True


@dataclass(slots=True)
class FakeConfig:
    """A configuration that a test replaces as it likes."""

    snapshot: Snapshot

    async def wait_for(self, offset: int, deadline_s: float) -> bool:
        return True


@dataclass(slots=True)
class Limiter:
    """Admission on a real ledger, with everything else at hand."""

    ledger: LedgerClient
    config: FakeConfig
    clock: Clock = field(default_factory=Clock)
    producer: FakeProducer = field(default_factory=FakeProducer)
    bus: FakeBus = field(default_factory=FakeBus)
    waiters: WaitingCounts = field(default_factory=WaitingCounts)
    defaults: Defaults = _UNLIMITED
    service: BudgetService | None = None
    counted: CountedSpend | None = None
    """Given with the service."""
    standing: Standing = field(default_factory=Standing)
    """What is known of budgets outlasts a batch."""
    has_room: bool = True
    """Whether one more may begin to wait for a limit."""
    left: list[Left] = field(default_factory=list)
    """What the last batch left undecided."""
    _offsets: Iterator[int] = field(default_factory=itertools.count)

    def parts(self) -> Parts:
        """Everything that surrounds one batch, wired as the composition root does."""
        return Parts(self)

    def record(self, request: RequestAccepted) -> FakeRecord:
        """The record of a new request."""
        now_ms = self.clock.now_ms()
        return FakeRecord(encode(request), next(self._offsets), timestamp_ms=now_ms)

    def delivered(self, outgoing: Outgoing) -> FakeRecord:
        """A record that was produced, as it comes back."""
        return FakeRecord(
            outgoing.value,
            next(self._offsets),
            outgoing.topic,
            outgoing.key,
            dict(outgoing.headers),
            self.clock.now_ms(),
        )

    async def handle(self, *records: FakeRecord) -> list[Outgoing]:
        """One batch; what it produced. What is only to be asked again is asked again."""
        before, parts = len(self.producer.produced), self.parts()
        batch = parts.admission.take([record.as_record() for record in records])
        self.left = []
        while batch:
            left = await parts.admission.admit(batch)
            batch = [each.taken for each in left if each.why == "ledger"]
            self.left += [each for each in left if each.why not in ("ledger", "budget")]
            batch += await parts.asked(left)
        await parts.settled()
        return self.producer.produced[before:]


class Parts:
    """Admission and what it hands on to."""

    def __init__(self, around: Limiter) -> None:
        producer, clock, metrics = cast("Producer", around.producer), around.clock, Metrics()
        self.replies = ReplySender(cast("Bus", around.bus), clock, metrics)
        self.trail = AuditTrail(producer, clock)
        letters = DeadLetters.through(producer)
        self.culprits = Culprits(around.ledger, producer, self.replies, letters, metrics, clock)
        self.execution = Effects(producer, self.replies, self.trail, self.culprits)
        self.returned: list[Taken] = []
        """Requests that have waited for the budget service."""
        self.budget = ExternalBudget(
            service=around.service,
            counted=cast("CountedSpend", around.counted),
            config=cast("ConfigFeed", around.config),
            trail=self.trail,
            clock=clock,
            metrics=metrics,
            again=self.returned.append,
            standing=around.standing,
        )
        self.admission = Admission(
            ledger=around.ledger,
            execution=self.execution,
            waiters=around.waiters,
            config=cast("ConfigFeed", around.config),
            culprits=self.culprits,
            metrics=metrics,
            clock=clock,
            defaults=around.defaults,
            budget=self.budget,
            has_room=lambda: around.has_room,
        )

    async def asked(self, left: Sequence[Left]) -> list[Taken]:
        """Of what was left those that wait for the budget service, with their verdicts."""
        for each in left:
            if each.why == "budget":
                self.budget.add(each.taken)
        await self.budget.settled()
        returned, self.returned[:] = list(self.returned), []
        return returned

    async def settled(self) -> None:
        """Everything that was begun is out."""
        await self.execution.settled()
        await self.culprits.settled()
        await self.trail.settled()
        await self.replies.send_waiting()


def _nowhere(_: Taken) -> None:
    """Until there is an intake."""


@asynccontextmanager
async def intake_of(limiter: Limiter) -> AsyncIterator[FairIntake]:
    """The intake in front of admission, running."""
    parts = limiter.parts()
    closed = ClosedShards(limiter.ledger.shard_of, limiter.clock, _nowhere)
    intake = FairIntake(parts.admission, limiter.clock, lambda _: False, closed.heed)
    closed.again = intake.push
    running = [asyncio.create_task(intake.run()), asyncio.create_task(closed.run())]
    try:
        yield intake
        await parts.settled()
    finally:
        for task in running:
            task.cancel()
        await asyncio.wait(running)
