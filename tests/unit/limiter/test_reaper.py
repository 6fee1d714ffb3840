"""What the reaper writes about requests that nobody ended."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from typing import Any, cast

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingress.replies.frame_order import Position, Verdict, sequence
from limiter_worker.reaper import Reaper, outcome_of
from limiter_worker.replies import ReplySender
from schemas.codec import encode
from schemas.events import RecordRef, RequestFinished
from schemas.failures import Poison
from schemas.frames import Terminal
from schemas.hold_facts import HoldFacts, info_of
from schemas.ledger import documents
from schemas.ledger.answers import Fence, GivenUp, Ok, ReapedAttempts, ReapEntry
from schemas.ledger.documents import Booking
from schemas.ledger.errors import LedgerNotReady
from schemas.ledger.model.ledger import LedgerModel
from schemas.ledger.shards import Shards
from schemas.outgoing import Outgoing
from schemas.runtime.kafka.produce import Producer
from schemas.runtime.ledger.client import LedgerClient
from schemas.runtime.process.clock import Clock
from schemas.runtime.process.telemetry import Metrics
from schemas.runtime.valkey.bus import Bus
from schemas.times import FULL
from schemas.topics import OUTCOMES
from schemas.usage import measures_of
from tests.support.events import ACCEPTED_AT, NOW_MS, REQUEST_ID, accepted
from tests.support.limiter_parts import FakeBus, FakeProducer
from tests.support.one_shard import ONE_SHARD

_INFO = info_of(accepted(), ACCEPTED_AT).encoded()


def _booked(nano_usd: int, tokens: int) -> tuple[Booking, ...]:
    return (
        Booking(key="b:org/nano_usd:2023-11", unit="nano_usd", amount=nano_usd),
        Booking(key="b:org/tokens:2023-11", unit="tokens", amount=tokens),
    )


_WHOLE_HOLD = _booked(5_000_000, 1_500)


def _entry(**more: Any) -> ReapEntry:
    fields: dict[str, Any] = {
        "org": "acme",
        "req": REQUEST_ID,
        "verdict": "UNKNOWN",
        "attempt": 1,
        "accepted_ms": NOW_MS,
        "deadline_ms": NOW_MS + 60_000,
        "info": _INFO,
        "holds": _WHOLE_HOLD,
        "fence": 2,
    }
    return ReapEntry(**(fields | more))


def _outcome_of(entry: ReapEntry) -> RequestFinished:
    return outcome_of(entry, HoldFacts.decoded(entry.info))


def _given_up(verdict: str, booked: tuple[Booking, ...]) -> GivenUp:
    return msgspec.convert(
        {"attempt": 1, "verdict": verdict, "fence": 1, "owner": "d0", "booked": booked}, GivenUp
    )


def _sums(outcome: RequestFinished) -> tuple[dict[str, int], dict[str, int]]:
    """Per unit: what was booked, and what the usage lines will say."""
    booked = {"nano_usd": 0, "tokens": 0}
    lines = {"nano_usd": 0, "tokens": 0}
    for booking in outcome.bookings:
        booked[booking.unit] += booking.amount
    for attempt in outcome.attempts:
        measured = measures_of(attempt, 0)
        lines["nano_usd"] += measured.get("cost_nano_usd", 0)
        lines["tokens"] += measured.get("input_tokens", 0) + measured.get("output_tokens", 0)
    return booked, lines


def test_a_hold_that_never_ran_expires_without_cost() -> None:
    """504, nothing booked, no usage line."""
    outcome = _outcome_of(_entry(verdict="VOIDED"))

    assert (outcome.status, outcome.http_status) == ("expired", 504)
    assert (outcome.attempts, outcome.bookings) == ([], [])


def test_its_outcome_is_found_as_any_other() -> None:
    """By key and as a job, as the hold remembers them; most requests are neither, and pay nothing for it."""
    request = accepted(idempotency_hash="ab" * 32, fingerprint="cd" * 32, job='["echo",7]')
    outcome = _outcome_of(_entry(info=info_of(request, ACCEPTED_AT).encoded()))

    assert outcome.idempotency_hash == request.idempotency_hash
    assert (outcome.fingerprint, outcome.job) == (request.fingerprint, request.job)
    assert "job" not in _INFO


def test_an_attempt_whose_owner_vanished_is_booked_at_its_whole_hold() -> None:
    """Marked as an estimate, because nobody saw what it used."""
    outcome = _outcome_of(_entry())
    (attempt,) = outcome.attempts

    assert (outcome.status, outcome.http_status) == ("failed", 502)
    assert (attempt.input_tokens, attempt.output_tokens, attempt.cost_nano_usd) == (
        1_000,
        500,
        5_000_000,
    )
    assert attempt.estimated
    assert attempt.status == "unknown"


@pytest.mark.parametrize(
    "first",
    [
        pytest.param(_given_up("UNKNOWN", _WHOLE_HOLD), id="vanished"),
        pytest.param(_given_up("FAILED", _booked(70, 30)), id="failed after some work"),
        pytest.param(_given_up("FAILED", ()), id="failed before any work"),
    ],
)
@pytest.mark.parametrize("verdict", ["UNKNOWN", "VOIDED"])
def test_a_first_attempt_is_written_as_it_was_booked(first: GivenUp, verdict: str) -> None:
    """Its line says what the ledger settled for it, not the whole bound again."""
    outcome = _outcome_of(_entry(verdict=verdict, attempt=2, first=first))
    booked, lines = _sums(outcome)

    assert [a.attempt for a in outcome.attempts] == ([1] if verdict == "VOIDED" else [1, 2])
    assert outcome.attempts[0].status == first.verdict.lower()
    assert booked == lines


@given(st.integers(0, 2_000), st.integers(0, 10**9))
def test_the_lines_of_a_reaped_request_add_up_to_its_bookings(tokens: int, nano_usd: int) -> None:
    """Whatever the ledger booked."""
    booked, lines = _sums(_outcome_of(_entry(holds=_booked(nano_usd, tokens))))

    assert booked == lines


def test_without_a_price_there_is_no_cost() -> None:
    """Null, not zero."""
    tokens_only = (Booking(key="b:org/tokens:2023-11", unit="tokens", amount=1_500),)

    assert _outcome_of(_entry(holds=tokens_only)).attempts[0].cost_nano_usd is None


def test_every_reaper_makes_the_same_bytes() -> None:
    """Two replicas may reap the same entry; its time is its deadline."""
    assert encode(_outcome_of(_entry())) == encode(_outcome_of(_entry()))
    assert _outcome_of(_entry()).finished_at_ms == NOW_MS + 60_000


def test_an_outcome_carries_the_facts_that_were_kept_beside_the_hold() -> None:
    """Who, what, and the record it follows from."""
    outcome = _outcome_of(_entry())
    request = accepted()

    assert (outcome.key_id, outcome.project, outcome.user) == (
        request.key_id,
        request.project,
        request.user,
    )
    assert (outcome.route, outcome.model) == (request.route, request.model)
    assert outcome.parents == [ACCEPTED_AT]


def test_kept_facts_never_contain_the_content() -> None:
    """The ledger is not where prompts are kept."""
    assert "hello" not in _INFO
    assert HoldFacts.decoded(_INFO) == info_of(accepted(), ACCEPTED_AT)


@pytest.mark.parametrize("info", ["", "{}", "[]"])
def test_facts_of_others_are_refused(info: str) -> None:
    """With one exception, which the reaper reports."""
    with pytest.raises(msgspec.DecodeError):
        HoldFacts.decoded(info)


@dataclass
class _ReapedLedger:
    """Lists what it is given, and keeps what is confirmed."""

    entries: tuple[ReapEntry, ...]
    confirmed: list[str] = field(default_factory=list)
    is_empty: asyncio.Event = field(default_factory=asyncio.Event)
    shards: Shards = ONE_SHARD

    async def reap(self, shard: int, document: documents.Reap) -> ReapedAttempts:
        return ReapedAttempts(entries=self.entries[: document.limit])

    async def reaped(self, shard: int, document: documents.Reaped) -> Ok:
        self.confirmed += [entry.req for entry in document.entries]
        gone = {entry.req for entry in document.entries}
        self.entries = tuple(e for e in self.entries if e.req not in gone)
        if not self.entries:
            self.is_empty.set()
        return Ok()


class _RefusesOne(FakeProducer):
    """Takes no outcome of the organization ``large``."""

    def send(self, record: Outgoing) -> asyncio.Future[RecordRef]:
        if record.key != b"large":
            return super().send(record)
        refused: asyncio.Future[RecordRef] = asyncio.get_running_loop().create_future()
        refused.set_exception(Poison("too large"))
        return refused


def _reaper(ledger: object, bus: FakeBus | None = None) -> tuple[Reaper, _RefusesOne]:
    producer, metrics = _RefusesOne(), Metrics()
    replies = ReplySender(cast("Bus", bus or FakeBus()), Clock(), metrics)
    reaper = Reaper(cast("LedgerClient", ledger), cast("Producer", producer), replies, metrics)
    return reaper, producer


async def _for_a_moment(reaper: Reaper, seconds: float) -> None:
    running = asyncio.create_task(reaper.run())
    await asyncio.sleep(seconds)
    running.cancel()
    await asyncio.wait([running])


async def test_an_entry_that_makes_no_outcome_stops_no_other() -> None:
    """Bad facts, a defect, or a record that no broker takes: the others are confirmed."""
    bad = (
        _entry(req="facts", info="{}"),
        _entry(req="amounts", holds=(None,)),
        _entry(req="large", org="large"),
    )
    ledger = _ReapedLedger((*bad, _entry(req="good")))
    reaper, producer = _reaper(ledger)
    await reaper.reap()

    assert ledger.confirmed == ["good"]
    assert [event.request_id for event in producer.events(OUTCOMES)] == ["good"]  # type: ignore[union-attr]


async def test_a_round_that_fails_is_not_the_last() -> None:
    """Whatever it met."""
    ledger = _ReapedLedger((_entry(req="good"),))
    reaper, _ = _reaper(ledger)
    reap = ledger.reap
    rounds = 0

    async def fails_first(shard: int, document: documents.Reap) -> ReapedAttempts:
        nonlocal rounds
        rounds += 1
        if rounds == 1:
            raise ZeroDivisionError
        return await reap(shard, document)

    ledger.reap = fails_first  # type: ignore[method-assign]
    await _for_a_moment(reaper, 1.2)

    assert ledger.confirmed == ["good"]


async def test_a_shard_that_is_closed_stops_no_other() -> None:
    """Each is reaped and confirmed for itself; the round says what it met."""
    ledger = _ReapedLedger((_entry(req="good"),), shards=Shards(3))
    reap = ledger.reap

    async def first_is_closed(shard: int, document: documents.Reap) -> ReapedAttempts:
        if shard == 0:
            raise LedgerNotReady("being rebuilt")
        return await reap(shard, document) if shard == 1 else ReapedAttempts()

    ledger.reap = first_is_closed  # type: ignore[method-assign]
    reaper, _ = _reaper(ledger)
    with pytest.raises(LedgerNotReady):
        await reaper.reap()

    assert ledger.confirmed == ["good"]


async def test_all_that_is_due_is_ended_at_once() -> None:
    """Not some hundreds a second: an outage may leave thousands."""
    ledger = _ReapedLedger(tuple(_entry(req=f"r{number}") for number in range(2_000)))
    reaper, _ = _reaper(ledger)
    reaper.times = replace(FULL, reap_period_ms=600_000)
    running = asyncio.create_task(reaper.run())
    await asyncio.wait_for(ledger.is_empty.wait(), 30)
    running.cancel()

    assert len(ledger.confirmed) == 2_000


async def test_a_broker_that_takes_nothing_is_not_asked_in_a_circle() -> None:
    """What is not confirmed comes again by itself, after half a minute."""
    ledger = _ReapedLedger((_entry(req="large", org="large"),))
    reaper, _ = _reaper(ledger)

    assert not await reaper.reap()
    assert ledger.confirmed == []


@pytest.mark.parametrize("streamed", [True, False])
async def test_the_client_of_a_vanished_owner_hears_the_end(*, streamed: bool) -> None:
    """A frame that its ingress takes whatever it has relayed, and that says what the outcome says."""
    ledger, bus = _RunLedger(), FakeBus()
    fence = ledger.begin(streamed=streamed)
    reaper, producer = _reaper(ledger, bus)
    await reaper.reap()
    await reaper.replies.send_waiting()

    (frame,) = bus.sent
    (outcome,) = producer.events(OUTCOMES)
    assert isinstance(outcome, RequestFinished)
    assert isinstance(frame.content, Terminal)
    assert (frame.content.http_status, frame.content.error_code) == (502, "upstream_interrupted")
    assert outcome.error_code == frame.content.error_code
    assert frame.content.usage is not None
    assert frame.content.usage.estimated
    relayed = Position(fence, seq=3, has_content=streamed)
    assert sequence(relayed, frame)[0] is Verdict.RELAY


async def test_the_client_of_a_hold_that_never_ran_hears_its_deadline() -> None:
    """Whichever process it waits at."""
    ledger, bus = _RunLedger(), FakeBus()
    reaper, _ = _reaper(ledger, bus)
    await reaper.reap()
    await reaper.replies.send_waiting()

    (frame,) = bus.sent
    assert isinstance(frame.content, Terminal)
    assert (frame.content.http_status, frame.content.error_code) == (504, "deadline_exceeded")
    assert sequence(Position(), frame)[0] is Verdict.RELAY


class _RunLedger:
    """The model with one admitted request, looked at ten minutes later."""

    shards = ONE_SHARD

    def __init__(self) -> None:
        self.model = LedgerModel(epoch=1)
        admit = documents.Admit(
            org="acme",
            req=REQUEST_ID,
            deadline_ms=NOW_MS + 60_000,
            accepted_ms=NOW_MS,
            balances=(
                documents.Balance(key="b:x", unit="tokens", amount=1_500, start_ms=0, end_ms=None),
            ),
            info=_INFO,
        )
        self.model.admit(admit, NOW_MS * 1_000)

    def begin(self, *, streamed: bool) -> int:
        start = documents.Start(org="acme", req=REQUEST_ID, owner="d", lease_ms=10_000)
        fence = self.model.start(start, NOW_MS * 1_000)
        assert isinstance(fence, Fence)
        renew = documents.Renew(
            org="acme", req=REQUEST_ID, fence=fence.fence, lease_ms=10_000, streamed=streamed
        )
        self.model.renew(renew, NOW_MS * 1_000)
        return fence.fence

    async def reap(self, shard: int, document: documents.Reap) -> ReapedAttempts:
        later_ms = NOW_MS + 600_000
        self.model.reap(document, later_ms * 1_000 - 1)
        return self.model.reap(document, (later_ms + 40_000) * 1_000)

    async def reaped(self, shard: int, document: documents.Reaped) -> Ok:
        return self.model.reaped(document)
