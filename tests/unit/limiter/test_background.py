"""Background work: after the others, fair by organization, and until its deadline."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from limiter_worker.admission import Left
from limiter_worker.background import Background
from schemas.config_state import Snapshot
from schemas.entities import Key, Organization
from schemas.events import RequestFinished
from schemas.ledger import documents
from schemas.runtime.kafka.consume.records import Record
from schemas.runtime.process.clock import Clock
from schemas.stated_limits import Defaults
from schemas.topics import BACKGROUND, DISPATCH, OUTCOMES
from tests.support.events import accepted, configuration
from tests.support.limiter_parts import FakeConfig, FakeRecord, Limiter, ModelLedger


class _SetClock(Clock):
    """Steps forward by hand, both of its times alike."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def now_ms(self) -> int:
        return super().now_ms() + int(self.ahead_s * 1_000)

    def monotonic_s(self) -> float:
        return super().monotonic_s() + self.ahead_s


def _organizations(*names: str) -> Snapshot:
    """Several organizations, each with a key of its own."""
    one = configuration()
    fields = {name: getattr(one, name) for name in Snapshot.__dataclass_fields__}
    keys = {f"key_{n}": Key(org=n, hash="0" * 64, display="", created_at_ms=0) for n in names}
    orgs = {name: Organization() for name in names}
    return Snapshot(**(fields | {"organizations": orgs, "keys": keys}))


def _nobody_waits(record: Record) -> None:
    """No request here is flex."""
    raise AssertionError(record)


class _Room:
    """The room on a ledger that lets so many of an organization run at once."""

    def __init__(self, in_flight: int, must_wait: Callable[[], bool] = lambda: False) -> None:
        self.clock = _SetClock()
        self.ledger = ModelLedger(clock=self.clock)
        config = FakeConfig(_organizations("acme", "loud", "quiet"))
        self.limiter = Limiter(self.ledger, config, clock=self.clock)
        self.limiter.defaults = Defaults(1e6, 1_000_000, in_flight=in_flight)
        self.parts = self.limiter.parts()
        self.routed: list[Left] = []
        self.room = Background(
            self.parts.admission, self.clock, must_wait, self._route, _nobody_waits
        )

    def _route(self, left: Left) -> bool:
        if left.why == "config":
            self.routed.append(left)
        return left.why == "config"

    async def post(
        self, org: str, count: int, first: int = 0, ttl_s: int = 600
    ) -> list[FakeRecord]:
        now_ms = self.clock.now_ms()
        records = []
        for number in range(first, first + count):
            request = accepted(
                request_id=f"{org}-{number}",
                org=org,
                key_id=f"key_{org}",
                project=None,
                user=None,
                background=True,
                accepted_at_ms=now_ms,
                deadline_ms=now_ms + ttl_s * 1_000,
                produce_by_ms=now_ms + 60_000,
            )
            record = self.limiter.record(request)
            record.topic, record.key = BACKGROUND, org.encode()
            record.headers = {"deadline_ms": b"%d" % request.deadline_ms}
            records.append(record)
        await self.room.handle([record.as_record() for record in records])
        return records

    async def ask(self, after_s: float = 1.0) -> list[str]:
        """One batch; who was dispatched by it."""
        before = len(self.dispatched)
        self.clock.ahead_s += after_s
        await self.room.ask()
        await self.parts.settled()
        return self.dispatched[before:]

    @property
    def dispatched(self) -> list[str]:
        # By their keys, because decoding thousands again and again takes long.
        produced = self.limiter.producer.produced
        return [record.key.decode() for record in produced if record.topic == DISPATCH]

    def finish(self, request_id: str) -> None:
        """The dispatcher is done with it."""
        org = request_id.partition("-")[0]
        now_us = self.clock.now_ms() * 1_000
        start = documents.Start(org=org, req=request_id, owner="d", lease_ms=15_000)
        fence = getattr(self.ledger.model.start(start, now_us), "fence", 0)
        done = documents.Finish(org=org, req=request_id, fence=fence)
        self.ledger.model.finish(done, b"outcome", now_us)


async def test_five_thousand_jobs_of_one_organization_all_run() -> None:
    """As places become free, in order, and the ledger is asked for few that must wait."""
    room = _Room(in_flight=256)
    records = await room.post("acme", 5_000)
    running: list[str] = []
    rounds = 0
    while len(room.dispatched) < 5_000:
        running += await room.ask(0.25)
        rounds += 1
        for request_id in running[:64]:
            room.finish(request_id)
        del running[:64]
        assert rounds < 2_000

    assert room.dispatched == [f"acme-{number}" for number in range(5_000)]
    assert [record.finished for record in records] == [1] * 5_000
    assert sum(len(asked) for asked in room.ledger.rounds) < 2.5 * 5_000


async def test_one_at_its_limit_holds_up_no_other() -> None:
    """Whoever comes behind its thousands is asked for at once."""
    room = _Room(in_flight=4)
    await room.post("loud", 3_000)
    await room.ask()
    await room.ask()
    await room.post("quiet", 3)

    assert set(await room.ask()) == {"quiet-0", "quiet-1", "quiet-2"}


async def test_a_deadline_that_passes_while_it_waits_ends_it() -> None:
    """Wherever it stands in the line."""
    room = _Room(in_flight=1)
    await room.post("acme", 20)
    (short,) = await room.post("acme", 1, first=99, ttl_s=5)
    await room.ask()
    await room.ask(6.0)

    outcomes = [e for e in room.limiter.producer.events(OUTCOMES) if isinstance(e, RequestFinished)]
    assert [(e.request_id, e.status, e.http_status) for e in outcomes] == [
        ("acme-99", "expired", 504)
    ]
    assert short.finished == 1


async def test_it_waits_while_interactive_requests_are_behind() -> None:
    """And goes on when they are not."""
    is_behind = True
    room = _Room(in_flight=256, must_wait=lambda: is_behind)
    await room.post("acme", 1)
    running = asyncio.create_task(room.room.run())
    await asyncio.sleep(0.15)
    assert room.ledger.rounds == []
    is_behind = False
    await asyncio.sleep(0.2)
    running.cancel()
    await asyncio.wait([running])

    assert room.dispatched == ["acme-0"]


async def test_what_waits_at_the_stop_keeps_its_offset() -> None:
    """Whoever comes next reads it again; nothing more is taken in."""
    room = _Room(in_flight=1)
    records = await room.post("acme", 3)
    await room.room.close()
    records += await room.post("acme", 1, first=3)

    assert len(room.room) == 0
    assert await room.ask() == []
    assert [record.finished for record in records] == [0] * 4


async def test_a_default_rate_is_waited_for_as_the_lease_is() -> None:
    """Nobody stated it; the jobs run when their turn comes."""
    room = _Room(in_flight=256)
    room.limiter.defaults = Defaults(5.0, 5, in_flight=256)
    room.parts = room.limiter.parts()
    room.room = Background(
        room.parts.admission, room.clock, lambda: False, room._route, _nobody_waits
    )
    await room.post("acme", 12)
    while len(room.dispatched) < 12:
        await room.ask()

    assert room.limiter.producer.events(OUTCOMES) == []
