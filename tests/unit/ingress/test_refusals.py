"""Bodies and headers of refusals on both surfaces."""

from __future__ import annotations

import json
from typing import Any, get_args

import pytest

from ingress.apis.answer_format import error_event
from ingress.http.refusals import Refusal, refusal_body, told_headers
from schemas.errors import ERRORS, ErrorCode
from schemas.events import Denial, Said
from schemas.operations import Surface

REQUEST_ID = "018bcfe5-6800-7000-8000-000000000000"
BUDGET = Denial(
    limit_id="org:acme:usd_month",
    limit_type="budget",
    unit="nano_usd",
    current_usage=9_007_199_254_740_991,
    limit=2_000_000_000,
)
RATE = Denial(
    limit_id="key:k:requests_per_s",
    limit_type="rate_limit",
    unit="requests",
    current_usage=20,
    limit=20,
    retry_after_ms=1_200,
)


def _body(refusal: Refusal, surface: Surface) -> dict[str, Any]:
    body = json.loads(refusal_body(refusal, surface, REQUEST_ID)[1], parse_float=str)
    assert isinstance(body, dict)
    return body


def test_the_openai_surface_has_the_openai_error_object() -> None:
    """All four keys are there."""
    refusal = Refusal(ErrorCode.INVALID_REQUEST, "n must be 1.", param="n")

    assert _body(refusal, "openai") == {
        "error": {
            "message": "n must be 1.",
            "type": "invalid_request_error",
            "param": "n",
            "code": "invalid_request",
        }
    }


def test_native_routes_answer_problem_json() -> None:
    """RFC 9457's members, and error and code beside them."""
    refusal = Refusal(ErrorCode.INVALID_API_KEY, "No.")

    assert refusal_body(refusal, "native", REQUEST_ID)[0] == b"application/problem+json"
    assert _body(refusal, "native") == {
        "type": "about:blank",
        "title": "The API key is not valid",
        "status": 401,
        "detail": "No.",
        "instance": f"urn:uuid:{REQUEST_ID}",
        "error": "No.",
        "code": "invalid_api_key",
    }


def test_a_denial_on_a_native_route_has_exactly_the_limit_fields() -> None:
    """Money is written exactly, where a float would round it."""
    refusal = Refusal(ErrorCode.BUDGET_EXCEEDED, "Spent.", denial=BUDGET)

    assert _body(refusal, "native") == {
        "error": "Spent.",
        "code": "BUDGET_EXCEEDED",
        "limit_type": "budget",
        "current_usage": "9007199.254740991",
        "limit": "2.000000000",
        "retry_after": None,
    }


def test_a_denial_on_the_openai_surface_has_both() -> None:
    """The error object for SDKs, the limit fields for everyone else."""
    body = _body(Refusal(ErrorCode.RATE_LIMIT_EXCEEDED, "Slow.", denial=RATE), "openai")

    assert body.pop("error")["type"] == "rate_limit_exceeded"
    assert body == {
        "code": "RATE_LIMIT_EXCEEDED",
        "limit_type": "rate_limit",
        "current_usage": 20,
        "limit": 20,
        "retry_after": 2,
    }


@pytest.mark.parametrize(
    ("refusal", "headers"),
    [
        (
            Refusal(ErrorCode.RATE_LIMIT_EXCEEDED, "", denial=RATE),
            {b"retry-after": b"2", b"retry-after-ms": b"1200"},
        ),
        (
            Refusal(ErrorCode.RATE_LIMIT_EXCEEDED, "", retry_after_ms=60_001),
            {b"retry-after": b"61", b"retry-after-ms": b"60001", b"x-should-retry": b"false"},
        ),
        (
            Refusal(ErrorCode.BUDGET_EXCEEDED, "", status_override=429, retry_after_ms=150),
            {b"retry-after": b"1", b"retry-after-ms": b"150"},
        ),
        (Refusal(ErrorCode.BUDGET_EXCEEDED, "", denial=BUDGET), {b"x-should-retry": b"false"}),
        (
            Refusal(ErrorCode.SERVICE_UNAVAILABLE, ""),
            {b"retry-after": b"2", b"retry-after-ms": b"2000"},
        ),
        (Refusal(ErrorCode.DEADLINE_EXCEEDED, ""), {}),
        (Refusal(ErrorCode.INVALID_JSON, ""), {b"x-should-retry": b"false"}),
    ],
    ids=["rate", "long wait", "contended", "budget", "unavailable", "deadline", "invalid"],
)
def test_retry_hints_are_honest(refusal: Refusal, headers: dict[bytes, bytes]) -> None:
    """A hint where a retry may help, a stop sign where it cannot."""
    assert dict(told_headers(refusal)) == headers


@pytest.mark.parametrize("code", list(ErrorCode))
@pytest.mark.parametrize("surface", get_args(Surface))
def test_every_code_can_be_rendered(code: ErrorCode, surface: Surface) -> None:
    """With the table's status."""
    refusal = Refusal(code, "message")

    assert refusal.status == ERRORS[code].status
    assert code.value in str(_body(refusal, surface))


def test_what_a_backend_named_stands_where_programs_look_for_it() -> None:
    """Ours stands beside it (faults.md C5): on the OpenAI surface, on the native one, in the event of a stream."""
    said = Said("context_length_exceeded", "messages", "invalid_request_error")
    refusal = Refusal(ErrorCode.UPSTREAM_REJECTED, "too long", status_override=400, said=said)

    openai = json.loads(refusal_body(refusal, "openai", "r")[1])["error"]
    native = json.loads(refusal_body(refusal, "native", "r")[1])
    event = json.loads(error_event(refusal).removeprefix(b"data: "))["error"]
    assert (
        openai
        == event
        == {
            "message": "too long",
            "type": "invalid_request_error",
            "param": "messages",
            "code": "context_length_exceeded",
            "gateway_code": "upstream_rejected",
        }
    )
    assert (native["code"], native["upstream_code"], native["upstream_param"]) == (
        "upstream_rejected",
        "context_length_exceeded",
        "messages",
    )


def test_a_backends_rate_limit_is_one_for_sdks() -> None:
    """429, with its hint (faults.md D6)."""
    refusal = Refusal(ErrorCode.UPSTREAM_RATE_LIMITED, "slow down", retry_after_ms=1_500)

    assert refusal.status == 429
    assert told_headers(refusal) == [(b"retry-after", b"2"), (b"retry-after-ms", b"1500")]
