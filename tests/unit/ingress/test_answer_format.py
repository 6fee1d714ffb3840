"""Headers of answers."""

from __future__ import annotations

import pytest

from ingress.apis.answer_format import (
    RELAYED,
    go_duration,
    ping,
    rate_headers,
    rates_shown,
    refusal_of,
    terminal_headers,
)
from schemas.errors import ErrorCode
from schemas.events import Denial, RateStatus
from schemas.frames import Terminal, Usage

RATES = (
    RateStatus(id="org:a:requests_per_s", limit=200, remaining=150, reset_ms=500),
    RateStatus(id="key:k:requests_per_s", limit=20, remaining=3, reset_ms=1_700),
    RateStatus(id="org:a:tokens_per_min", limit=6_000, remaining=0, reset_ms=60_000),
)


@pytest.mark.parametrize(
    ("duration_ms", "text"),
    [
        (0, "0s"),
        (120, "120ms"),
        (1_000, "1s"),
        (1_500, "1.5s"),
        (1_005, "1.005s"),
        (60_000, "1m0s"),
        (360_000, "6m0s"),
        (3_661_010, "1h1m1.01s"),
    ],
)
def test_durations_read_as_in_go(duration_ms: int, text: str) -> None:
    """As OpenAI writes its reset headers."""
    assert go_duration(duration_ms) == text


def test_the_tightest_of_several_limits_is_shown() -> None:
    """The one with the least left, for requests and for tokens."""
    assert dict(rate_headers(RATES)) == {
        b"x-ratelimit-limit-requests": b"20",
        b"x-ratelimit-remaining-requests": b"3",
        b"x-ratelimit-reset-requests": b"1.7s",
        b"ratelimit-policy": b'"requests";q=20',
        b"ratelimit": b'"requests";r=3;t=2',
        b"x-ratelimit-limit-tokens": b"6000",
        b"x-ratelimit-remaining-tokens": b"0",
        b"x-ratelimit-reset-tokens": b"1m0s",
    }


def test_a_rate_that_refused_is_shown_as_empty() -> None:
    """A refusal carries no status of the buckets, but its denial says enough."""
    denial = Denial(
        limit_id="key:k:requests_per_s",
        limit_type="rate_limit",
        unit="requests",
        current_usage=20,
        limit=20,
        retry_after_ms=50,
    )

    headers = dict(rate_headers(rates_shown((), denial)))

    assert headers[b"x-ratelimit-remaining-requests"] == b"0"
    assert headers[b"x-ratelimit-reset-requests"] == b"50ms"


def test_cost_and_backend_are_told() -> None:
    """The cost to the nano-USD; none without a price."""
    priced = Terminal(200, backend="b1", usage=Usage(1, 1, 12_000, estimated=False))
    unpriced = Terminal(200, backend="b1", usage=Usage(1, 1, None, estimated=False))

    assert dict(terminal_headers(priced)) == {
        b"x-tallygate-backend": b"b1",
        b"x-tallygate-cost-usd": b"0.000012000",
    }
    assert dict(terminal_headers(unpriced)) == {b"x-tallygate-backend": b"b1"}


def test_a_stream_ends_with_its_cost_and_the_end_mark() -> None:
    """The cost is a comment of the end mark: clients that parse data lines skip it, and it is no event of its own."""
    terminal = Terminal(200, usage=Usage(1, 1, 12_000, estimated=False))

    assert RELAYED.last_events(terminal) == b": x-tallygate-cost-usd 0.000012000\ndata: [DONE]\n\n"


def test_a_sign_of_life_is_no_event_of_its_own() -> None:
    """Of a comment before a blank line the openai SDK makes an event without data, once it has seen an id."""
    assert ping("openai") == b": ping\n"


def test_an_error_code_of_a_newer_worker_is_an_internal_error() -> None:
    """Its status and message are kept."""
    refusal = refusal_of(Terminal(418, error_code="teapot", error_message="short and stout"))

    assert refusal is not None
    assert refusal.code is ErrorCode.INTERNAL_ERROR
    assert (refusal.status, refusal.message) == (418, "short and stout")
    assert refusal_of(Terminal(200)) is None
