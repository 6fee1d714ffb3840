"""Deferral: which tier, how many waiters, and what a waiting request carries along."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from limiter_worker.accepted import DEFERRAL_HEADER, Accepted, Deferral, accepted_of
from limiter_worker.decision_records import audit_of, follow_up
from limiter_worker.decisions import (
    Dispatch,
    Rejection,
    decide,
    end,
    may_wait,
    refuse,
    was_produced_too_late,
)
from limiter_worker.deferral import WAITERS_MAX, Wait, WaitingCounts, again_ms, tier_of, wait_of
from limiter_worker.limits import AdmissionRequest, terms_of
from schemas import topics
from schemas.audit import Bounds, Refused
from schemas.codec import MalformedRecord, decode_as, encode
from schemas.entities import Limits
from schemas.errors import ErrorCode
from schemas.events import AuditRecorded, Denial, RecordRef, RequestAccepted
from schemas.ledger import answers
from schemas.stated_limits import Defaults
from schemas.topics import DEFERRED_1S, DEFERRED_10S, DEFERRED_60S
from tests.support.events import ACCEPTED_AT, NOW_MS, REQUEST_ID, accepted, configuration

_APPENDED_MS = NOW_MS + 2
_TIER_REF = RecordRef(topic=DEFERRED_1S, partition=3, offset=7)
_DENIAL = Denial(
    limit_id="org:budget:month",
    limit_type="budget",
    unit="nano_usd",
    current_usage=4,
    limit=5,
    retry_after_ms=700,
)


def _accepted(**more: Any) -> Accepted:
    request = accepted(**more)
    return Accepted(request, encode(request), ACCEPTED_AT, _APPENDED_MS)


def _refusal(request: Accepted) -> Rejection:
    return refuse(request, ErrorCode.BUDGET_EXCEEDED, _DENIAL, http_status=429)


def _wait(request: Accepted | None = None) -> Wait:
    waiting = request or _accepted()
    wait = wait_of(waiting, _refusal(waiting), NOW_MS)
    assert wait is not None
    return wait


def _read_back(wait: Wait, appended_at_ms: int) -> Accepted:
    """The request as the limiter takes it from the tier."""
    outgoing = follow_up(_accepted(), wait, {}, 3)
    return accepted_of(outgoing.value, dict(outgoing.headers), _TIER_REF, appended_at_ms)


@pytest.mark.parametrize(
    ("retry_after_ms", "left_ms", "tier"),
    [
        (0, 60_000, DEFERRED_1S),
        (1_000, 60_000, DEFERRED_1S),
        (1_001, 60_000, DEFERRED_10S),
        (10_000, 60_000, DEFERRED_10S),
        (10_001, 61_000, DEFERRED_60S),
        (90_000, 600_000, DEFERRED_60S),
    ],
)
def test_a_request_waits_in_the_shortest_tier_that_is_long_enough(
    retry_after_ms: int, left_ms: int, tier: str
) -> None:
    """Beyond a minute it waits minute by minute."""
    assert tier_of(retry_after_ms, left_ms) == tier


@pytest.mark.parametrize(
    ("retry_after_ms", "left_ms", "tier"),
    [
        (5_000, 8_000, DEFERRED_1S),
        (20_000, 30_000, DEFERRED_10S),
        (0, 1_001, DEFERRED_1S),
        (0, 1_000, None),
        (5_000, 5_000, None),
        (90_000, 60_001, None),
    ],
)
def test_a_wait_ends_before_the_deadline_or_does_not_begin(
    retry_after_ms: int, left_ms: int, tier: str | None
) -> None:
    """A shorter tier is used more than once rather than a longer one too long."""
    assert tier_of(retry_after_ms, left_ms) == tier


def test_a_deferred_request_comes_back_as_it_was_accepted() -> None:
    """The same event, bytes and place, so that its admission looks like any other."""
    original = _accepted()
    back = _read_back(_wait(original), NOW_MS + 5)

    assert (back.request, back.record, back.ref) == (
        original.request,
        original.record,
        original.ref,
    )
    assert back.not_before_ms == NOW_MS + 1_000
    assert back.deferral == Deferral(number=1, origin=ACCEPTED_AT, denial=_DENIAL)


@pytest.mark.parametrize(
    ("retry_after_ms", "left_ms", "due_in_ms"),
    [(700, 60_000, 1_000), (5_000, 8_000, 5_000), (700, 1_000, None), (5_000, 5_000, None)],
)
def test_who_waits_in_memory_is_asked_again_when_it_may_help(
    retry_after_ms: int, left_ms: int, due_in_ms: int | None
) -> None:
    """Not within the same second, and never after the deadline."""
    back = _read_back(_wait(), NOW_MS)
    now_ms = back.request.deadline_ms - left_ms
    denial = msgspec.structs.replace(_DENIAL, retry_after_ms=retry_after_ms)
    refusal = refuse(back, ErrorCode.BUDGET_EXCEEDED, denial)

    assert again_ms(back, refusal, now_ms) == (due_in_ms and now_ms + due_in_ms)


def test_a_deferred_record_goes_to_its_tier_under_the_organization() -> None:
    """With the time to try again in the event, and the request's own headers."""
    outgoing = follow_up(_accepted(), _wait(), {"request_id": REQUEST_ID.encode()}, 3)
    headers = dict(outgoing.headers)

    assert (outgoing.topic, outgoing.key) == (DEFERRED_1S, b"acme")
    assert decode_as(outgoing.value, RequestAccepted).not_before_ms == NOW_MS + 1_000
    assert headers["request_id"] == REQUEST_ID.encode()
    assert headers["ce_type"] == b"dev.tallygate.request.deferred.v1"


@pytest.mark.parametrize("headers", [{}, {DEFERRAL_HEADER: b"{}"}], ids=["absent", "empty"])
def test_a_deferred_record_without_its_header_is_malformed(headers: dict[str, bytes]) -> None:
    """Nobody could say where it came from."""
    with pytest.raises(MalformedRecord):
        accepted_of(encode(_wait().event), headers, _TIER_REF, NOW_MS)


def test_a_deferred_request_is_not_too_late_for_its_produce_deadline() -> None:
    """That deadline was about its first record."""
    back = _read_back(_wait(), NOW_MS + 30_000)

    assert back.request.produce_by_ms < NOW_MS + 30_000
    assert not was_produced_too_late(back, back.request.produce_by_ms * 2)


def test_a_wait_in_vain_names_the_limit() -> None:
    """When the deadline passed meanwhile, the outcome still says for what."""
    terms = terms_of(_accepted(), configuration(), Defaults(100, 200, in_flight=256), NOW_MS, "")
    assert isinstance(terms, AdmissionRequest)
    ending = decide(_read_back(_wait(), NOW_MS + 5), terms, answers.Expired())

    assert isinstance(ending, Rejection)
    assert (ending.outcome.status, ending.outcome.http_status) == ("expired", 504)
    assert (ending.outcome.denial, ending.terminal.retry_after_ms) == (_DENIAL, 700)
    assert ending.outcome.parents == [ACCEPTED_AT, _TIER_REF]


@pytest.mark.parametrize(
    ("answer", "waits"),
    [
        (answers.Contended(id="x", usage=1, limit=1, retry_after_ms=1), True),
        (answers.Limited(id="x", usage=1, limit=1, retry_after_ms=1), True),
        (answers.Refused(why="spent", id="x", usage=1, limit=1), False),
        (answers.Refused(why="too_large", id="x", usage=1, limit=1), False),
        (answers.Expired(), False),
        (answers.Cancelled(), False),
    ],
)
def test_only_what_passes_by_itself_is_waited_for(answer: Any, waits: bool) -> None:
    """A spent budget does not come back."""
    assert may_wait(answer) == waits


@pytest.mark.parametrize(
    ("scopes", "waits"),
    [
        ({}, False),
        ({"org": "defer"}, True),
        ({"org": "defer", "project": "reject"}, False),
        ({"org": "reject", "project": "defer"}, True),
        ({"project": "reject", "user": "defer"}, True),
        ({"user": "reject", "key": "defer"}, True),
        ({"org": "defer", "user": "defer", "key": "reject"}, False),
    ],
)
def test_the_policy_nearest_to_the_caller_decides(scopes: dict[str, Any], waits: bool) -> None:
    """Key before user before project before organization; none refuses."""
    limits: dict[str, Any] = {name: Limits(on_limit=policy) for name, policy in scopes.items()}
    config = configuration(**limits)
    terms = terms_of(_accepted(), config, Defaults(100, 200, in_flight=256), NOW_MS, "")

    assert isinstance(terms, AdmissionRequest)
    assert terms.admit.defer == waits


def _numbered(number: int, org: str = "acme") -> Wait:
    return _wait(_accepted(request_id=f"r{number}", org=org))


def test_an_organization_has_a_bounded_number_of_waiters() -> None:
    """Others have their own, and who waits already keeps the place."""
    waiters = WaitingCounts()

    assert all(waiters.enter(_numbered(n), NOW_MS) for n in range(WAITERS_MAX))
    assert not waiters.enter(_numbered(WAITERS_MAX), NOW_MS)
    assert waiters.enter(_numbered(0), NOW_MS)
    assert waiters.enter(_numbered(0, "other"), NOW_MS)


def test_a_place_is_free_again_once_its_request_is_decided() -> None:
    """However it was decided."""
    waiters = WaitingCounts()
    for number in range(WAITERS_MAX):
        waiters.enter(_numbered(number), NOW_MS)
    waiters.leave(_numbered(5).event)

    assert waiters.enter(_numbered(WAITERS_MAX), NOW_MS)
    assert not waiters.enter(_numbered(WAITERS_MAX + 1), NOW_MS)


def test_who_never_comes_back_loses_the_place() -> None:
    """Another process took the partition over."""
    waiters = WaitingCounts()
    for number in range(WAITERS_MAX):
        waiters.enter(_numbered(number), NOW_MS)

    assert not waiters.enter(_numbered(WAITERS_MAX), NOW_MS + 60_000)
    assert waiters.enter(_numbered(WAITERS_MAX), NOW_MS + 61_001)


def test_waiters_of_another_process_count_once_their_records_were_read() -> None:
    """After a takeover."""
    waiters = WaitingCounts()
    for number in range(WAITERS_MAX):
        waiters.note(_numbered(number).event, NOW_MS + 1_000)

    assert not waiters.enter(_numbered(WAITERS_MAX), NOW_MS)


def _facts(event: AuditRecorded | Refused | None) -> dict[str, Any]:
    assert isinstance(event, AuditRecorded)
    return dict(msgspec.json.decode(event.detail))


def test_auditors_hear_of_a_deferral() -> None:
    """Who, when, which limit and how full it was; the same bytes for a redelivery."""
    event = audit_of(_accepted(), _wait())
    assert isinstance(event, AuditRecorded)

    assert (event.audit_id, event.action) == (f"{REQUEST_ID}:deferred:1", "deferred")
    assert (event.org, event.actor, event.at_ms) == ("acme", "key_a", _APPENDED_MS)
    assert _facts(event) == {
        "code": "BUDGET_EXCEEDED",
        "limit_id": "org:budget:month",
        "limit_type": "budget",
        "unit": "nano_usd",
        "current_usage": 4,
        "limit": 5,
        "retry_after_ms": 700,
        "model": "echo",
        "bounds": {"input_tokens": 1_000, "output_tokens": 500, "nano_usd": None},
    }
    assert audit_of(_accepted(), _wait()) == event


def test_auditors_hear_what_the_request_could_have_used() -> None:
    """In tokens and money, as it would have been held: refused or sent to wait, whatever the limit counts."""
    request = _accepted()
    terms = terms_of(request, configuration(), Defaults(100, 200, in_flight=256), NOW_MS, "")
    assert isinstance(terms, AdmissionRequest)
    (held,) = [each.amount for each in terms.admit.balances if each.unit == "nano_usd"][:1]
    full = answers.Limited(id="org:requests_per_s", usage=1, limit=1, retry_after_ms=700)

    refusal = decide(request, terms, full)
    assert isinstance(refusal, Rejection)
    refused, wait = audit_of(request, refusal), wait_of(request, refusal, NOW_MS)
    assert isinstance(refused, Refused)
    assert wait is not None

    assert held > 0
    assert refused.bounds == Bounds(1_000, 500, held)
    assert _facts(audit_of(request, wait))["bounds"]["nano_usd"] == held


def test_of_a_model_without_a_price_only_tokens_are_bounded() -> None:
    request = _accepted()
    unpriced = audit_of(request, end(request, "refused", ErrorCode.MODEL_UNPRICED))

    assert isinstance(unpriced, Refused)
    assert unpriced.bounds == Bounds(1_000, 500, None)


def test_auditors_hear_of_every_refusal() -> None:
    """Also of one that no limit made."""
    request = _accepted()
    by_limit = audit_of(request, _refusal(request))
    unpriced = audit_of(request, end(request, "refused", ErrorCode.MODEL_UNPRICED))

    assert isinstance(by_limit, Refused)
    assert (by_limit.request_id, by_limit.at_ms) == (REQUEST_ID, _APPENDED_MS)
    assert by_limit.denial is not None
    assert by_limit.denial.limit_id == "org:budget:month"
    assert isinstance(unpriced, Refused)
    assert (unpriced.code, unpriced.denial, unpriced.model) == ("model_unpriced", None, "echo")


def test_auditors_do_not_hear_of_what_was_granted_or_given_up() -> None:
    """An admission has a record of its own; a cancellation is the client's."""
    request = _accepted()
    terms = terms_of(request, configuration(), Defaults(100, 200, in_flight=256), NOW_MS, "")
    assert isinstance(terms, AdmissionRequest)
    admitted = decide(request, terms, answers.Admitted())
    cancelled = end(request, "cancelled", ErrorCode.REQUEST_CANCELLED)

    assert isinstance(admitted, Dispatch)
    assert audit_of(request, admitted) is None
    assert audit_of(request, cancelled) is None


def test_tiers_are_topics_that_wait_as_their_names_say() -> None:
    """The shortest first."""
    assert topics.DEFERRED_DELAYS_MS == {
        "inference.deferred-1s.v1": 1_000,
        "inference.deferred-10s.v1": 10_000,
        "inference.deferred-60s.v1": 60_000,
    }
