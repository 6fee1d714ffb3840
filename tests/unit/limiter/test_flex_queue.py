"""Where flex waits: for room, in turn by organization, without a hold, and not beyond its deadline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pytest

from limiter_worker.admission import Left
from limiter_worker.background import Background
from limiter_worker.flex_queue import FlexQueue
from schemas.config_state import Snapshot
from schemas.entities import Budget, Key, Limits, Organization
from schemas.errors import ErrorCode
from schemas.events import Reach, RequestFinished
from schemas.failures import Failure
from schemas.flex import FLEX_HEADER
from schemas.ledger import answers, documents
from schemas.reports import BackendReport
from schemas.runtime.process.clock import Clock
from schemas.stated_limits import Defaults
from schemas.topics import BACKGROUND, DISPATCH, OUTCOMES
from tests.support.events import accepted, configuration
from tests.support.limiter_parts import FakeConfig, FakeRecord, Limiter, ModelLedger


class _SetClock(Clock):
    def __init__(self) -> None:
        self.ahead_s = 0.0

    def now_ms(self) -> int:
        return super().now_ms() + int(self.ahead_s * 1_000)

    def monotonic_s(self) -> float:
        return super().monotonic_s() + self.ahead_s


class _Rebuilding(ModelLedger):
    """A ledger that may not have brought its jobs back yet."""

    are_jobs_missing = False

    async def look_many(self, batch: Sequence[documents.Look]) -> list[answers.Look | Failure]:
        return [answers.Look(state="", kept_missing=self.are_jobs_missing) for _ in batch]


@dataclass
class _Record(FakeRecord):
    rested: list[int] = field(default_factory=list)

    def rest(self, now_ms: int) -> None:
        self.rested.append(now_ms)


def _organizations(limits: Limits) -> Snapshot:
    one = configuration()
    fields = {name: getattr(one, name) for name in Snapshot.__dataclass_fields__}
    names = ("acme", "loud", "quiet")
    keys = {f"key_{n}": Key(org=n, hash="0" * 64, display="", created_at_ms=0) for n in names}
    return Snapshot(
        **(
            fields
            | {"organizations": dict.fromkeys(names, Organization(limits=limits)), "keys": keys}
        )
    )


class _Waiting:
    """A queue before dispatchers that say how much is free."""

    def __init__(
        self,
        room: int,
        in_flight: int = 1_000,
        limits: Limits = Limits(),  # noqa: B008  # a frozen value
    ) -> None:
        self.clock = _SetClock()
        self.ledger = _Rebuilding(clock=self.clock)
        config = FakeConfig(_organizations(limits))
        self.limiter = Limiter(self.ledger, config, clock=self.clock)
        self.limiter.defaults = Defaults(1e6, 1_000_000, in_flight=in_flight)
        self.parts = self.limiter.parts()
        self.room, self.is_behind = room, False
        self.flex = FlexQueue(
            self.parts.admission, self.clock, lambda: self.is_behind, lambda _: False, self._told
        )

    async def _told(self) -> tuple[Mapping[str, str], Mapping[str, str]]:
        report = BackendReport(
            state="healthy", since_ms=0, inflight=0, limit=2 * self.room, at_ms=self.clock.now_ms()
        )
        return {"d|b1": report.line().decode()} if self.room else {}, {}

    def post(self, org: str, count: int, ttl_s: int = 3_600) -> list[_Record]:
        now_ms = self.clock.now_ms()
        records = []
        for number in range(count):
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
                reach=Reach(service_tier="flex"),
            )
            made = self.limiter.record(request)
            headers = dict((FLEX_HEADER, ("deadline_ms", b"%d" % request.deadline_ms)))
            record = _Record(made.value, made.offset, BACKGROUND, org.encode(), headers, now_ms)
            records.append(record)
            self.flex.push(record.as_record())
        return records

    async def look(self, after_s: float = 11.0) -> list[str]:
        """One look, when what was let in before is in the reports; who was dispatched by it."""
        before = len(self.limiter.producer.produced)
        self.clock.ahead_s += after_s
        await self.flex.look()
        await self.parts.settled()
        made = self.limiter.producer.produced[before:]
        return [record.key.decode() for record in made if record.topic == DISPATCH]


async def test_no_more_are_admitted_than_there_is_room_for() -> None:
    """And none before dispatchers have said anything; what waits holds nothing in the ledger."""
    waiting = _Waiting(room=0)
    records = waiting.post("acme", 5)

    assert await waiting.look() == []
    assert waiting.ledger.rounds == []
    waiting.room = 2
    assert await waiting.look() == ["acme-0", "acme-1"]
    assert await waiting.look(after_s=0.1) == [], "those two are on their way"
    assert await waiting.look() == ["acme-2", "acme-3"]
    assert [record.finished for record in records] == [1, 1, 1, 1, 0]
    assert len(waiting.flex) == 1


async def test_room_is_given_in_turn_by_organization() -> None:
    """Whoever comes behind another's thousand has its share of it at once."""
    waiting = _Waiting(room=8)
    waiting.post("loud", 1_000)
    waiting.post("quiet", 3)

    first = await waiting.look()

    assert {"quiet-0", "quiet-1", "quiet-2"} < set(first)
    assert len(first) == 8


async def test_turns_go_on_from_look_to_look() -> None:
    """Where there is room for one at a time, too."""
    waiting = _Waiting(room=1)
    waiting.post("loud", 100)
    waiting.post("quiet", 2)

    served = [await waiting.look() for _ in range(4)]

    assert served == [["loud-0"], ["quiet-0"], ["loud-1"], ["quiet-1"]]


async def test_nothing_starts_while_interactive_requests_are_behind() -> None:
    """Room or not."""
    waiting = _Waiting(room=5)
    waiting.post("acme", 1)
    waiting.is_behind = True

    assert await waiting.look() == []
    waiting.is_behind = False
    assert await waiting.look() == ["acme-0"]


async def test_one_whose_deadline_passes_ends_with_the_stated_error() -> None:
    """Also while there is no room, and with nothing held or billed."""
    waiting = _Waiting(room=0)
    (record,) = waiting.post("acme", 1, ttl_s=60)

    await waiting.look(after_s=61)

    (outcome,) = waiting.limiter.producer.events(OUTCOMES)
    assert isinstance(outcome, RequestFinished)
    assert (outcome.status, outcome.http_status) == ("expired", 429)
    assert outcome.error_code == ErrorCode.RESOURCE_UNAVAILABLE
    assert (outcome.attempts, outcome.bookings, record.finished) == ([], [], 1)


async def test_one_that_meets_a_limit_waits_for_it() -> None:
    """It is not refused: the places that nobody stated, or any rate, come back before its deadline."""
    waiting = _Waiting(room=5, in_flight=2)
    records = waiting.post("acme", 3)

    assert await waiting.look() == ["acme-0", "acme-1"]
    assert len(waiting.flex) == 1
    assert waiting.limiter.producer.events(OUTCOMES) == []
    assert [record.finished for record in records] == [1, 1, 0]


@pytest.mark.parametrize(
    "limits",
    [
        Limits(concurrency=1),
        Limits(requests_per_s=0.001, burst=1),
        Limits(budgets=(Budget(usd="0.008", period="total"),)),
    ],
    ids=["places", "rate", "budget that is on hold"],
)
async def test_one_that_meets_a_stated_limit_waits_for_it_too(limits: Limits) -> None:
    """It has until its deadline, so nothing refuses it that a later time may lift."""
    waiting = _Waiting(room=5, limits=limits)
    waiting.post("acme", 2)

    assert await waiting.look() == ["acme-0"]
    assert await waiting.look() == []
    assert len(waiting.flex) == 1
    assert waiting.limiter.producer.events(OUTCOMES) == []


async def test_what_is_spent_refuses_it() -> None:
    """No time brings that back, so it hears at once."""
    waiting = _Waiting(room=5, limits=Limits(budgets=(Budget(usd="0.000001", period="total"),)))
    waiting.post("acme", 1)
    await waiting.look()

    (outcome,) = waiting.limiter.producer.events(OUTCOMES)
    assert isinstance(outcome, RequestFinished)
    assert (outcome.http_status, outcome.error_code) == (402, ErrorCode.BUDGET_EXCEEDED)


async def test_nothing_is_decided_twice_while_a_rebuild_brings_jobs_back() -> None:
    """One that ended hours ago may be read again: nobody knows until they are back."""
    waiting = _Waiting(room=5)
    waiting.post("acme", 1)
    waiting.ledger.are_jobs_missing = True

    assert await waiting.look() == []
    waiting.ledger.are_jobs_missing = False
    assert await waiting.look() == ["acme-0"]


async def test_who_waits_for_hours_is_said_to_be_looked_after() -> None:
    """So that nobody takes the process for stuck."""
    waiting = _Waiting(room=0)
    (record,) = waiting.post("acme", 1)
    for _ in range(3):
        await waiting.look(after_s=31)

    assert len(record.rested) == 3


async def test_the_background_hands_over_what_says_that_it_is_flex() -> None:
    """By its header, before anything is decoded; other jobs stay."""
    waiting = _Waiting(room=0)
    taken: list[object] = []
    background = Background(
        waiting.parts.admission, waiting.clock, lambda: False, _keeps, taken.append
    )
    plain = FakeRecord(b"", key=b"acme", headers={"deadline_ms": b"99"})
    flex = FakeRecord(b"", key=b"acme", headers=dict((FLEX_HEADER,)))
    await background.handle([plain.as_record(), flex.as_record()])

    assert (len(background), taken) == (1, [flex])


def _keeps(_: Left) -> bool:
    return False


async def test_what_was_revoked_is_forgotten() -> None:
    """Whoever has the partitions next reads the records again."""
    waiting = _Waiting(room=5)
    waiting.post("acme", 2)
    await waiting.flex.forget()

    assert (await waiting.look(), len(waiting.flex)) == ([], 0)


async def test_the_hold_is_taken_when_it_starts() -> None:
    """In the ledger stands nothing of one that waits."""
    waiting = _Waiting(room=1)
    waiting.post("acme", 2)
    await waiting.look()

    assert waiting.ledger.state_of("acme-0") == "RESERVED"
    assert ("acme", "acme-1") not in waiting.ledger.model.attempts
