"""Admission: what cannot be decided is left or ends alone, and its neighbours go on."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from limiter_worker import admission, culprits, taken
from limiter_worker.accepted import Accepted
from limiter_worker.limits import UNAVAILABLE, terms_of
from schemas.entities import Limits
from schemas.events import RecordRef, RequestFinished
from schemas.failures import Poison
from schemas.frames import Terminal
from schemas.ledger import documents
from schemas.ledger.errors import LedgerFault, LedgerUnavailable
from schemas.outgoing import Outgoing
from schemas.runtime.process.clock import Clock
from schemas.stated_limits import Defaults
from schemas.topics import AUDIT, DEFERRED_1S, DISPATCH, OUTCOMES
from tests.support.events import configuration
from tests.support.limiter_parts import FakeProducer, FakeRecord, Limiter, ModelLedger
from tests.support.remembered import grown, remembered
from tests.unit.limiter.admission_scene import (
    LETTERS,
    dispatched_ids,
    new_limiter,
    new_request,
    statuses,
)


class _TooLarge(Poison):
    """A record that no broker takes."""


class _Picky(FakeProducer):
    """Refuses the dispatch of one request for good, and one outcome for a while."""

    def send(self, record: Outgoing) -> asyncio.Future[RecordRef]:
        if record.topic == DISPATCH and record.key == b"r1":
            refused: asyncio.Future[RecordRef] = asyncio.get_running_loop().create_future()
            refused.set_exception(_TooLarge("9 MiB"))
            return refused
        return super().send(record)


def _assert_only_the_second_failed(limiter: Limiter, records: list[FakeRecord]) -> None:
    """Outcome, reply and dead letter for it; its neighbours run; every offset goes."""
    assert dispatched_ids(limiter) == ["r0", "r2"]
    assert statuses(limiter) == {"r1": ("failed", 500)}
    (frame,) = limiter.bus.sent
    assert isinstance(frame.content, Terminal)
    assert (frame.request_id, frame.content.error_code) == ("r1", "internal_error")
    (letter,) = [r for r in limiter.producer.produced if r.topic == LETTERS]
    assert letter.value == records[1].value
    assert [record.finished for record in records] == [1, 1, 1]


async def test_a_request_whose_limits_cannot_be_found_fails_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And no redelivery admits it."""

    def fail(accepted: Accepted, *more: Any) -> Any:
        if accepted.request.request_id == "r1":
            raise ZeroDivisionError
        return terms_of(accepted, *more)

    monkeypatch.setattr(admission, "terms_of", fail)
    limiter, ledger = new_limiter()
    records = [limiter.record(new_request(number)) for number in range(3)]
    await limiter.handle(*records)

    _assert_only_the_second_failed(limiter, records)
    assert ledger.state_of("r1") == "REFUSED"


async def test_a_request_that_the_ledger_rejects_fails_alone() -> None:
    """The others of its round trip have their answers."""
    limiter, ledger = new_limiter()
    ledger.failures["r1"] = LedgerFault("ERR user_function")
    records = [limiter.record(new_request(number)) for number in range(3)]
    await limiter.handle(*records)

    _assert_only_the_second_failed(limiter, records)


@pytest.mark.parametrize("where", ["decide", "follow_up", "producer"])
async def test_what_an_admitted_request_holds_returns_when_it_cannot_go_on(
    where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A defect in its decision or its record, or a record that no broker takes."""
    module: Any = admission if where == "decide" else taken
    found = getattr(module, where, None)

    def fail(request: Any, *more: Any) -> Any:
        if request.request.request_id == "r1" and not getattr(more[0], "outcome", None):
            raise ZeroDivisionError
        assert found is not None
        return found(request, *more)

    if where != "producer":
        monkeypatch.setattr(module, where, fail)
    limiter, ledger = new_limiter(producer=_Picky())
    records = [limiter.record(new_request(number)) for number in range(3)]
    await limiter.handle(*records)

    _assert_only_the_second_failed(limiter, records)
    assert ledger.state_of("r1") == "REFUSED"
    held = ledger.model.limits.balances["acme", "b:org/tokens:" + _month()]["reserved"]
    assert held == 2 * 1_500


def _month() -> str:
    from schemas.periods import period_at  # noqa: PLC0415  # one line of use

    return period_at("month", Clock().now_ms()).id


async def test_a_batch_that_fails_as_a_whole_is_taken_apart(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whoever is at fault pays; the halves without it pass."""
    limiter, ledger = new_limiter()
    admit_many = ledger.admit_many

    class _Breaks(ModelLedger):
        async def admit_many(self, batch: Any) -> Any:
            if any(document.req == "r1" for document in batch):
                raise RuntimeError("nobody expects it")
            return await admit_many(batch)

    limiter.ledger = _Breaks(model=ledger.model)
    records = [limiter.record(new_request(number)) for number in range(3)]
    await limiter.handle(*records)

    _assert_only_the_second_failed(limiter, records)


async def test_a_defect_that_strikes_the_failed_outcome_too_leaves_nothing_unfinished(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The dead letter is kept and the record is not read again for ever."""

    def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(culprits, "outcome_record", fail)
    limiter, ledger = new_limiter()
    ledger.failures["r1"] = LedgerFault("ERR")
    record = limiter.record(new_request(1))
    await limiter.handle(record)

    assert record.finished == 1
    assert [r.topic for r in limiter.producer.produced] == [LETTERS]
    assert ledger.state_of("r1") == "REFUSED"


async def test_a_request_that_ran_meanwhile_gets_no_second_outcome() -> None:
    """A defect on its redelivery costs a dead letter only."""
    limiter, ledger = new_limiter()
    record = limiter.record(new_request(1))
    await limiter.handle(record)
    start = documents.Start(org="acme", req="r1", owner="d", lease_ms=15_000)
    ledger.model.start(start, Clock().now_ms() * 1_000)
    ledger.failures["r1"] = LedgerFault("ERR")
    await limiter.handle(record)

    assert statuses(limiter) == {}
    assert [r.topic for r in limiter.producer.produced] == [DISPATCH, LETTERS]


async def test_what_the_ledger_does_not_answer_for_is_left() -> None:
    """The rest of the batch goes on; past its deadline it hears 503, but nothing ends without a
    decision that its copies hear too."""
    limiter, ledger = new_limiter()
    ledger.failures = {f"r{number}": LedgerUnavailable("away") for number in (1, 2)}
    over_ms = Clock().now_ms() - 1
    batch = [new_request(0), new_request(1), new_request(2, deadline_ms=over_ms)]
    parts = limiter.parts()
    records = [limiter.record(request) for request in batch]
    left = await parts.admission.admit(parts.admission.take([r.as_record() for r in records]))
    left = await parts.admission.admit([each.taken for each in left])
    await parts.settled()

    assert [(each.taken.accepted.request.request_id, each.why) for each in left] == [
        ("r1", "ledger"),
        ("r2", "ledger"),
    ]
    assert (dispatched_ids(limiter), statuses(limiter)) == (["r0"], {})
    (frame,) = limiter.bus.sent
    assert isinstance(frame.content, Terminal)
    assert (frame.request_id, frame.content.http_status) == ("r2", 503)
    assert [record.finished for record in records] == [1, 0, 0]

    ledger.failures = {}
    assert await parts.admission.admit([each.taken for each in left]) == []
    await parts.settled()
    assert statuses(limiter) == {"r2": ("expired", 504)}


async def test_a_request_whose_limits_are_not_here_is_not_asked_for() -> None:
    """It is left, whatever the ledger would say."""
    limiter, ledger = new_limiter()
    await limiter.handle(limiter.record(new_request(1, config_offset=8)))

    assert [each.why for each in limiter.left] == ["config"]
    assert (ledger.rounds, limiter.producer.produced) == ([], [])


async def test_what_names_a_closed_entity_hears_503_at_once() -> None:
    """Through the ledger, so that no other limiter admits it; a job waits."""
    closed = replace(configuration(), closed=frozenset({("key", "key_a")}))
    limiter, ledger = new_limiter(closed)
    await limiter.handle(
        limiter.record(new_request(1)), limiter.record(new_request(2, background=True))
    )

    assert statuses(limiter) == {"r1": ("refused", 503)}
    assert ledger.state_of("r1") == "REFUSED"
    assert [each.why for each in limiter.left] == ["config"]


async def test_a_key_that_was_deleted_is_refused_for_good() -> None:
    """401, not 503: waiting would not help."""
    gone = replace(configuration(), keys={}, versions={("key", "key_a"): 2})
    limiter, _ = new_limiter(gone)
    await limiter.handle(limiter.record(new_request(1)))

    assert statuses(limiter) == {"r1": ("refused", 401)}


async def test_a_deferred_request_is_written_once_however_often_it_is_asked_for() -> None:
    """One record in the tier and one audit event; then it waits in memory, its record unfinished."""
    limiter, _ = new_limiter(configuration(org=Limits(concurrency=1, on_limit="defer")))
    await limiter.handle(*(limiter.record(new_request(n)) for n in range(2)))
    (waiting,) = [r for r in limiter.producer.produced if r.topic == DEFERRED_1S]
    back, before_ms = limiter.delivered(waiting), Clock().now_ms()
    for _ in range(3):
        assert await limiter.handle(back) == []
        (left,) = limiter.left
        assert (left.why, id(left.taken.record)) == ("deferred", id(back))
        assert left.due_ms >= before_ms + 1_000

    assert back.finished == 0
    assert [event.audit_id for event in limiter.producer.events(AUDIT)] == ["r1:deferred:1"]  # type: ignore[union-attr]


async def test_only_a_job_of_which_nothing_else_is_known_is_parked_as_its_record() -> None:
    """Bytes do not say that it was declined, or that the log knows no end of it: it would be asked for
    in a circle."""
    limiter, _ = new_limiter()
    records = [limiter.record(new_request(n, background=n > 0)).as_record() for n in range(2)]
    interactive, job = limiter.parts().admission.take(records)

    assert job.may_be_parked
    others = (
        interactive,
        msgspec.structs.replace(job, is_first=True),
        msgspec.structs.replace(job, decline=UNAVAILABLE),
    )
    assert not any(taken.may_be_parked for taken in others)


async def test_without_room_a_refusal_is_final_instead_of_a_wait() -> None:
    """What waits in memory is bounded for all organizations together; the client hears when to retry."""
    limiter, _ = new_limiter(configuration(org=Limits(concurrency=1, on_limit="defer")))
    limiter.has_room = False
    await limiter.handle(*(limiter.record(new_request(n)) for n in range(2)))

    assert statuses(limiter) == {"r1": ("refused", 429)}


_TWO = Defaults(1e6, 1_000_000, in_flight=2)


async def test_the_default_lease_refuses_interactive_requests_with_facts() -> None:
    """429, by name and number, and when to come back; no rate token is spent for it."""
    limiter, ledger = new_limiter(defaults=_TWO)
    await limiter.handle(*(limiter.record(new_request(number)) for number in range(3)))

    (outcome,) = limiter.producer.events(OUTCOMES)
    assert isinstance(outcome, RequestFinished)
    assert outcome.denial is not None
    assert (outcome.http_status, outcome.error_code) == (429, "RATE_LIMIT_EXCEEDED")
    assert (outcome.denial.limit_id, outcome.denial.limit_type) == ("org:in_flight", "rate_limit")
    assert (outcome.denial.unit, outcome.denial.limit) == ("requests", 2)
    assert outcome.denial.retry_after_ms
    assert ledger.state_of("r2") == "REFUSED"


async def test_the_default_lease_lets_background_work_wait() -> None:
    """Nothing is kept of it: it is asked again, and admitted when a place is free."""
    limiter, ledger = new_limiter(defaults=_TWO)
    await limiter.handle(*(limiter.record(new_request(n, background=True)) for n in range(3)))

    assert [each.why for each in limiter.left] == ["limit"]
    assert dispatched_ids(limiter) == ["r0", "r1"]
    assert (statuses(limiter), ledger.state_of("r2")) == ({}, "")


async def test_a_limit_that_an_operator_set_refuses_background_work_too() -> None:
    """As before."""
    limiter, _ = new_limiter(configuration(org=Limits(concurrency=1)))
    await limiter.handle(*(limiter.record(new_request(n, background=True)) for n in range(2)))

    assert limiter.left == []
    assert statuses(limiter) == {"r1": ("refused", 429)}


@pytest.mark.parametrize(
    ("why", "code"),
    [("overloaded", "server_is_overloaded"), ("unavailable", "service_unavailable")],
)
async def test_a_shed_request_hears_503_and_when_to_come_back(why: Any, code: str) -> None:
    """Through the ledger, so that no redelivery admits it; nothing is held."""
    limiter, ledger = new_limiter()
    parts = limiter.parts()
    record = limiter.record(new_request(1))
    (request,) = parts.admission.take([record.as_record()])
    shed = documents.Decline(why=why, retry_after_ms=1_700)
    await parts.admission.admit([msgspec.structs.replace(request, decline=shed)])
    await parts.settled()
    await limiter.handle(record)

    assert statuses(limiter) == {"r1": ("refused", 503)}
    for frame in limiter.bus.sent:
        assert isinstance(frame.content, Terminal)
        assert (frame.content.error_code, frame.content.retry_after_ms) == (code, 1_700)
    assert (dispatched_ids(limiter), ledger.state_of("r1")) == ([], "REFUSED")


async def test_an_admission_says_in_which_shard_it_holds() -> None:
    """Its key spreads it over all partitions; a rebuild of one shard reads headers."""
    limiter, _ = new_limiter()
    await limiter.handle(limiter.record(new_request(1)))

    (dispatched,) = limiter.producer.produced
    shard = limiter.producer.partition_for(OUTCOMES, new_request(1).org.encode())
    assert dict(dispatched.headers)["shard"] == b"%d" % shard


async def test_no_function_remembers_what_comes_with_every_request() -> None:
    """Ids and times of the first ones tell nothing about the next; a day's worth would only be memory."""
    limiter, _ = new_limiter()
    await limiter.handle(*(limiter.record(new_request(number)) for number in range(2)))
    before = remembered()

    for number in range(2, 42):
        await limiter.handle(limiter.record(new_request(number, input_tokens_bound=number)))

    assert len(dispatched_ids(limiter)) == 42
    assert sum(grown(before).values()) < 5, "a second has begun, a period has ended"
