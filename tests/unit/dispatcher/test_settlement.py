"""What attempts amount to: bookings, outcome and terminal frame agree."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.amounts import (
    NOTHING,
    RESULT_BYTES_MAX,
    actual_of,
    as_asked,
    ending_again,
    outcome,
    terminal,
    token_uses,
    tool_calls,
    used,
)
from dispatcher.work import AdmittedRequest, Result
from schemas.errors import ERRORS, ErrorCode
from schemas.events import Attempt, Reach, ToolCalls
from schemas.frames import Usage
from schemas.pricing.counts import TokenCounts
from schemas.pricing.entries import Price
from schemas.pricing.price_list import price_list
from tests.support.events import (
    ACCEPTED_AT,
    DISPATCHED_AT,
    NOW_MS,
    PRICE,
    accepted,
    admitted,
    attempt,
)

_FENCE = 2**32 + 1
_COMPLETED = Result("completed", body=b'{"choices":[]}')
_CUT = Result(
    "completed", body=b'{"choices":[{"message":{"content":"a"},"finish_reason":"length"}]}'
)
_ATTEMPTS = st.builds(
    attempt,
    input_tokens=st.integers(0, 10**6),
    output_tokens=st.integers(0, 10**6),
    cost_nano_usd=st.none() | st.integers(0, 10**12),
    estimated=st.booleans(),
)


def _job(**more: Any) -> AdmittedRequest:
    request = accepted(**more)
    return AdmittedRequest(admitted(request), request, DISPATCHED_AT)


@given(st.lists(_ATTEMPTS, max_size=2))
def test_bookings_are_the_sums_of_the_attempts(attempts: list[Attempt]) -> None:
    """On every balance that was held; the request counts once, however often it was tried."""
    finished = outcome(_job(), attempts, _COMPLETED, _FENCE, NOW_MS)

    assert {booking.unit: booking.amount for booking in finished.bookings} == {
        "nano_usd": sum(a.cost_nano_usd or 0 for a in attempts),
        "tokens": sum(a.input_tokens + a.output_tokens for a in attempts),
        "requests": 1 if attempts else 0,
    }
    assert [b.key for b in finished.bookings] == [h.key for h in _job().admitted.holds]


@given(st.lists(_ATTEMPTS, min_size=1, max_size=2))
def test_the_client_is_told_what_is_booked(attempts: list[Attempt]) -> None:
    """The usage of the frame is that of all attempts; without any price its cost is null."""
    costs = [a.cost_nano_usd for a in attempts if a.cost_nano_usd is not None]

    assert terminal(_job(), attempts, _COMPLETED, NOW_MS).usage == Usage(
        sum(a.input_tokens for a in attempts),
        sum(a.output_tokens for a in attempts),
        sum(costs) if costs else None,
        estimated=any(a.estimated for a in attempts),
    )


@given(_ATTEMPTS)
def test_what_the_ledger_is_told_is_what_is_booked(run: Attempt) -> None:
    """``finish`` and the outcome are two independent sums of the same numbers."""
    bookings = outcome(_job(), [run], _COMPLETED, _FENCE, NOW_MS).bookings

    assert actual_of(run, requests=1) == {b.unit: b.amount for b in bookings}


@pytest.mark.parametrize("code", list(ErrorCode))
def test_an_error_is_answered_as_its_code_says(code: ErrorCode) -> None:
    """Outcome and frame carry the same status, code and message."""
    ending = Result("failed", code)
    finished = outcome(_job(), [attempt(status="failed")], ending, _FENCE, NOW_MS)
    frame = terminal(_job(), [attempt(status="failed")], ending, NOW_MS)

    assert finished.http_status == frame.http_status == ERRORS[code].status
    assert finished.error_code == frame.error_code == code
    assert finished.error_message == frame.error_message == ERRORS[code].title
    assert frame.retry_after_ms == ERRORS[code].retry_after_ms


def test_a_backends_own_refusal_keeps_its_status_and_message() -> None:
    """A 404 or 422 of the backend reaches the client as such."""
    ending = Result(
        "failed", ErrorCode.UPSTREAM_REJECTED, http_status=422, message="no", retry_after_ms=9
    )
    frame = terminal(_job(), [attempt()], ending, NOW_MS)

    assert (frame.http_status, frame.error_message, frame.retry_after_ms) == (422, "no", 9)


def test_a_success_is_200_and_has_no_error() -> None:
    """Its body is the backend's."""
    frame = terminal(_job(), [attempt()], _COMPLETED, NOW_MS + 250)

    assert (frame.http_status, frame.error_code, frame.error_message) == (200, None, None)
    assert (frame.body, frame.backend, frame.latency_ms) == (b'{"choices":[]}', "b1", 250)


def test_without_an_attempt_there_is_neither_backend_nor_usage() -> None:
    """Nothing ran."""
    frame = terminal(_job(), [], Result("failed", ErrorCode.NO_BACKEND), NOW_MS)

    assert (frame.backend, frame.usage) == (None, None)


@pytest.mark.parametrize(
    ("keep", "size", "kept"),
    [(True, 10, True), (True, RESULT_BYTES_MAX, True), (True, RESULT_BYTES_MAX + 1, False),
     (True, 0, False), (False, 10, False)],
    ids=["kept", "largest", "too large", "empty", "not asked for"],
)  # fmt: skip
def test_a_result_is_kept_when_it_is_fetched_later(keep: bool, size: int, kept: bool) -> None:
    """For jobs and keyed requests, up to a bound."""
    ending = Result("completed", body=b"x" * size)
    finished = outcome(_job(keep_result=keep), [attempt()], ending, _FENCE, NOW_MS)

    assert finished.result == (b"x" * size if kept else None)


def test_an_outcome_leads_back_to_its_records() -> None:
    """Request first, dispatch second; and it carries the fence it was closed under."""
    finished = outcome(_job(), [attempt()], _COMPLETED, _FENCE, NOW_MS)

    assert finished.parents == [ACCEPTED_AT, DISPATCHED_AT]
    assert finished.fence == _FENCE


def test_without_a_price_there_is_no_cost() -> None:
    """Null, not zero; with one, the pinned price decides."""
    assert used(None, TokenCounts(5, 5)) is None
    assert used(PRICE, TokenCounts(1, 1)) == 8_000


def test_a_call_that_was_answered_costs_its_fee_and_one_that_never_began_nothing() -> None:
    """Also where both used no token."""
    listed = Price(input_usd_per_mtok="1", output_usd_per_mtok="1", request_usd="0.01")
    price = price_list("m@1", (listed,), {}).at(0)

    assert used(price, TokenCounts(0, 0)) == 10_000_000
    assert used(price, NOTHING) == 0


def test_unused_tokens_return_to_the_buckets_of_every_scope() -> None:
    """The buckets were charged the bound; both attempts count as use."""
    request = accepted(project="p1", user="u1")
    both = [attempt(input_tokens=3, output_tokens=4), attempt(input_tokens=5, output_tokens=6)]
    uses = token_uses(AdmittedRequest(admitted(request), request, DISPATCHED_AT), both)

    assert {use.key for use in uses} == {
        "r:org/tokens",
        "r:project/p1/tokens",
        f"r:key/{request.key_id}/tokens",
        "r:user/u1/tokens",
    }
    assert {use.units for use in uses} == {18}


def test_a_kept_result_is_answered_again() -> None:
    """Nobody may have been told before its process died."""
    kept = outcome(_job(keep_result=True), [attempt()], _COMPLETED, _FENCE, NOW_MS)

    assert ending_again(kept, has_chunks=False) == _COMPLETED


def test_an_answer_that_nobody_kept_is_lost_and_says_so() -> None:
    """The request ran and was billed; only its body is gone."""
    finished = outcome(_job(), [attempt()], _COMPLETED, _FENCE, NOW_MS)

    assert ending_again(finished, has_chunks=False).code is ErrorCode.RESULT_LOST


def test_a_failure_is_told_again_as_it_was() -> None:
    """With the status the client would have got."""
    failed = Result("failed", ErrorCode.UPSTREAM_REJECTED, http_status=422, message="no")
    finished = outcome(_job(), [attempt()], failed, _FENCE, NOW_MS)

    assert ending_again(finished, has_chunks=False) == failed


def test_a_stream_whose_chunks_are_all_stored_lacks_only_its_end() -> None:
    """Chunks are stored before a request is closed."""
    finished = outcome(_job(), [attempt()], _COMPLETED, _FENCE, NOW_MS)

    assert ending_again(finished, has_chunks=True) == Result("completed")


def test_an_outcome_is_found_by_its_key_and_as_a_job() -> None:
    """By whoever makes the ledger anew from the log."""
    found_by = {"idempotency_hash": "ab" * 32, "fingerprint": "cd" * 32, "job": '["echo",7]'}
    finished = outcome(_job(**found_by), [attempt()], _COMPLETED, _FENCE, NOW_MS)

    assert {name: getattr(finished, name) for name in found_by} == found_by


def test_calls_count_under_the_kind_that_was_asked_for() -> None:
    """An answer says that it searched; the request said how much a search has to find."""
    told = TokenCounts(1, 1, tool_calls=3, tool_kinds=(("web_search", 2), ("mcp", 1)))
    counts = as_asked(told, Reach(tool_calls_bound=3, tool_kinds=["web_search:high"]))

    assert counts.tool_kinds == (("web_search:high", 2), ("mcp", 1))
    assert as_asked(told, None) is told
    assert tool_calls(counts) == [
        ToolCalls(kind="web_search:high", calls=2),
        ToolCalls(kind="mcp", calls=1),
    ]


def test_a_streamed_answer_that_may_be_referred_to_is_kept_as_one() -> None:
    """In the outcome, where its surface shows the request again; its client has had it in pieces."""
    ending = Result("completed", kept=b'{"choices":[]}')
    shown = outcome(_job(stream=True, shown=b"[{}]"), [attempt()], ending, _FENCE, NOW_MS)
    others = outcome(_job(stream=True), [attempt()], ending, _FENCE, NOW_MS)

    assert (shown.result, others.result) == (b'{"choices":[]}', None)


@pytest.mark.parametrize(
    ("request_is", "ending", "status"),
    [
        ({"route": "responses", "job": '["echo",7]'}, _CUT, "incomplete"),
        ({"route": "responses", "job": '["echo",7]'}, Result("failed", ErrorCode.NO_BACKEND), None),
        ({"route": "responses"}, _CUT, None),
        ({"route": "jobs", "job": '["echo",7]'}, _CUT, None),
    ],
)
def test_how_a_response_reads_is_written_down_where_its_end_is_told(
    request_is: dict[str, Any], ending: Result, status: str | None
) -> None:
    """Without its answer, which may stand elsewhere; of others nothing is read."""
    finished = outcome(_job(**request_is), [attempt()], ending, _FENCE, NOW_MS)

    assert finished.response_status == status
