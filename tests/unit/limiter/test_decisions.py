"""From the ledger's answer to what happens: one table for status, code and retry hint."""

from __future__ import annotations

from typing import Any

import pytest

from limiter_worker.accepted import Accepted
from limiter_worker.decisions import (
    Decidable,
    Dispatch,
    Rejection,
    decide,
    end,
    was_produced_too_late,
)
from limiter_worker.limits import AdmissionRequest, terms_of
from schemas.codec import encode
from schemas.entities import Budget, Limits, Quota
from schemas.errors import ErrorCode
from schemas.events import PinnedPrice, RateStatus
from schemas.ledger import answers
from schemas.ledger.documents import DeclineReason
from schemas.stated_limits import Defaults
from tests.support.events import ACCEPTED_AT, NOW_MS, accepted, configuration

_LIMITS = Limits(
    tokens_per_min=600,
    concurrency=3,
    budgets=(Budget("5", "month"),),
    quotas=(Quota(9, "requests", "day"),),
)
_APPENDED_MS = NOW_MS + 2


def _accepted(**more: Any) -> Accepted:
    request = accepted(**more)
    return Accepted(request, encode(request), ACCEPTED_AT, _APPENDED_MS)


def _terms(limits: Limits = _LIMITS) -> AdmissionRequest:
    config = configuration(org=limits)
    terms = terms_of(_accepted(), config, Defaults(100, 200, in_flight=256), NOW_MS, "")
    assert isinstance(terms, AdmissionRequest)
    return terms


def _ended(answer: Decidable) -> Rejection:
    decision = decide(_accepted(), _terms(), answer)
    assert isinstance(decision, Rejection)
    return decision


_RATE = answers.Limited(id="org:requests_per_s", usage=200, limit=200, retry_after_ms=40)
_LEASES = answers.Limited(id="org:concurrency", usage=3, limit=3, retry_after_ms=1_000)
_TOO_LARGE = answers.Refused(why="too_large", id="org:tokens_per_min", usage=1_500, limit=600)
_QUOTA = answers.Refused(why="spent", id="org:quota:requests:day", usage=9, limit=9)
_BUDGET = answers.Refused(why="spent", id="org:budget:month", usage=5 * 10**9, limit=5 * 10**9)
_HELD = answers.Contended(id="org:budget:month", usage=1, limit=5 * 10**9, retry_after_ms=700)
_QUOTA_HELD = answers.Contended(id="org:quota:requests:day", usage=1, limit=9, retry_after_ms=700)


@pytest.mark.parametrize(
    ("answer", "status", "code", "limit_type", "retry_after_ms"),
    [
        pytest.param(_RATE, 429, "RATE_LIMIT_EXCEEDED", "rate_limit", 40, id="rate"),
        pytest.param(_LEASES, 429, "RATE_LIMIT_EXCEEDED", "rate_limit", 1_000, id="concurrency"),
        pytest.param(
            _TOO_LARGE, 400, "request_too_large_for_limit", "rate_limit", None, id="too large"
        ),
        pytest.param(_QUOTA, 402, "QUOTA_EXCEEDED", "quota", None, id="quota spent"),
        pytest.param(_BUDGET, 402, "BUDGET_EXCEEDED", "budget", None, id="budget spent"),
        pytest.param(_HELD, 429, "BUDGET_EXCEEDED", "budget", 700, id="budget on hold"),
        pytest.param(_QUOTA_HELD, 429, "QUOTA_EXCEEDED", "quota", 700, id="quota on hold"),
    ],
)
def test_a_limit_refuses_with_its_status_and_an_honest_hint(
    answer: Decidable, status: int, code: str, limit_type: str, retry_after_ms: int | None
) -> None:
    """Outcome and frame say the same, and name the limit and its usage."""
    ending = _ended(answer)
    denial = ending.outcome.denial

    assert denial is not None
    assert ending.outcome.status == "refused"
    assert (ending.outcome.http_status, ending.terminal.http_status) == (status, status)
    assert (ending.outcome.error_code, ending.terminal.error_code) == (code, code)
    assert (denial.limit_type, denial.retry_after_ms) == (limit_type, retry_after_ms)
    assert ending.terminal.retry_after_ms == retry_after_ms
    assert ending.terminal.denial == denial


@pytest.mark.parametrize(
    ("answer", "status", "http_status", "code"),
    [
        (answers.Expired(), "expired", 504, "deadline_exceeded"),
        (answers.Cancelled(), "cancelled", 409, "request_cancelled"),
    ],
    ids=["expired", "cancelled"],
)
def test_what_is_over_before_admission_names_no_limit(
    answer: Decidable, status: str, http_status: int, code: str
) -> None:
    """It was nobody's limit."""
    outcome = _ended(answer).outcome

    assert (outcome.status, outcome.http_status, outcome.error_code) == (status, http_status, code)
    assert outcome.denial is None


def test_admission_embeds_the_accepted_record_verbatim() -> None:
    """With the price and the holds that the ledger agreed to."""
    accepted_ = _accepted()
    terms = _terms()
    left = RateStatus(id="org:requests_per_s", limit=200, remaining=199, reset_ms=10)
    decision = decide(accepted_, terms, answers.Admitted(remaining=(left,)))

    assert isinstance(decision, Dispatch)
    event = decision.event
    assert event.accepted == accepted_.record
    assert event.accepted_ref == ACCEPTED_AT
    assert isinstance(event.price, PinnedPrice)
    assert [(h.key, h.amount, h.limit) for h in event.holds] == [
        (b.key, b.amount, b.limit) for b in terms.admit.balances
    ]
    assert event.rates == [left]


def test_a_period_without_end_is_written_as_zero() -> None:
    """The record has no null there; the dispatcher reads it back as none."""
    terms = _terms(Limits(budgets=(Budget("5", "total"),)))
    decision = decide(_accepted(), terms, answers.Admitted())

    assert isinstance(decision, Dispatch)
    assert next(h.end_ms for h in decision.event.holds if h.key.endswith(":total")) == 0


def test_nothing_is_booked_before_a_backend_was_called() -> None:
    """A refusal has no attempts, no bookings and no fence."""
    outcome = _ended(_BUDGET).outcome

    assert (outcome.attempts, outcome.bookings, outcome.fence) == ([], [], 0)
    assert outcome.parents == [ACCEPTED_AT]


@pytest.mark.parametrize(
    "answer", [_RATE, _BUDGET, answers.Admitted()], ids=["rate", "budget", "admitted"]
)
def test_a_redelivery_makes_the_same_bytes(answer: Decidable) -> None:
    """Its time is the time of the append, not of the decision."""

    def decided() -> bytes:
        decision = decide(_accepted(), _terms(), answer)
        return encode(decision.event if isinstance(decision, Dispatch) else decision.outcome)

    assert decided() == decided()


def test_an_earlier_refusal_stands_after_its_limit_was_removed() -> None:
    """The ledger repeats its first verdict to a redelivery, whatever is configured by then."""
    decision = decide(_accepted(), _terms(Limits()), _BUDGET)

    assert isinstance(decision, Rejection)
    assert decision.outcome == _ended(_BUDGET).outcome


@pytest.mark.parametrize(
    ("why", "status", "http_status", "code"),
    [
        ("overloaded", "refused", 503, "server_is_overloaded"),
        ("unavailable", "refused", 503, "service_unavailable"),
        ("late", "expired", 503, "service_unavailable"),
        ("revoked", "refused", 401, "invalid_api_key"),
        ("gone", "refused", 404, "model_not_found"),
        ("unpriced", "refused", 403, "model_unpriced"),
        ("defect", "failed", 500, "internal_error"),
        ("rolled", "expired", 503, "service_unavailable"),
    ],
)
def test_what_the_gateway_itself_ends_names_no_limit(
    why: DeclineReason, status: str, http_status: int, code: str
) -> None:
    """One table: each reason has its status and code."""
    outcome = _ended(answers.Declined(why=why)).outcome

    assert (outcome.status, outcome.http_status, outcome.error_code) == (status, http_status, code)
    assert outcome.denial is None


def test_an_end_hints_at_a_retry_as_its_code_does() -> None:
    """Where no limit states a time of its own."""
    ending = end(_accepted(), "expired", ErrorCode.SERVICE_UNAVAILABLE)

    assert (ending.terminal.http_status, ending.terminal.retry_after_ms) == (503, 2_000)


def test_a_copy_appended_after_ingress_gave_up_is_too_late() -> None:
    """Ingress has answered 503 by then, so it must not run; brokers' clocks differ by a little."""
    request = _accepted(produce_by_ms=_APPENDED_MS)

    assert not was_produced_too_late(request, _APPENDED_MS + 2_000)
    assert was_produced_too_late(request, _APPENDED_MS + 2_001)


def test_nothing_is_too_late_by_a_brokers_clock_of_which_nothing_is_known() -> None:
    """It may be ten minutes off; ingress has cancelled what it gave up."""
    assert not was_produced_too_late(_accepted(produce_by_ms=_APPENDED_MS - 600_000), None)


def test_a_refusal_is_found_by_its_key_and_as_a_job() -> None:
    """By whoever makes the ledger anew from the log."""
    found_by = {"idempotency_hash": "ab" * 32, "fingerprint": "cd" * 32, "job": '["echo",7]'}
    outcome = end(_accepted(**found_by), "cancelled", ErrorCode.REQUEST_CANCELLED).outcome

    assert {name: getattr(outcome, name) for name in found_by} == found_by


def test_an_admission_says_what_it_entered_and_how_its_buckets_refill() -> None:
    """What neither the request nor the answer tells, so that a rebuild holds the same."""
    rates = [
        RateStatus(id=r.id, limit=r.burst, remaining=0, reset_ms=5) for r in _terms().admit.rates
    ]
    decision = decide(_accepted(), _terms(), answers.Admitted(remaining=tuple(rates)))

    assert isinstance(decision, Dispatch)
    assert decision.event.leases == ["c:org"]
    assert [rate.id for rate in decision.event.rates or []] == [
        "org:requests_per_s",
        "org:tokens_per_min",
        "key:requests_per_s",
    ]
    assert decision.event.rates_milli_per_s == [100_000, 10_000, 100_000]
