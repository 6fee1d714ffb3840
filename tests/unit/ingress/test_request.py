"""What headers of requests mean."""

from __future__ import annotations

import pytest

from ingress.http.refusals import Refusal
from ingress.http.request import deadline_ms_of, refuse_media, traceparent_of

TRACE = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.mark.parametrize(
    ("headers", "is_refused"),
    [
        ({b"content-type": b"application/json"}, False),
        ({b"content-type": b"Application/JSON; charset=utf-8"}, False),
        ({b"content-type": b"application/json", b"content-encoding": b"identity"}, False),
        ({b"content-type": b"application/json", b"content-encoding": b"gzip"}, True),
        ({b"content-type": b"application/jsonx"}, True),
        ({b"content-type": b"text/plain"}, True),
        ({}, True),
    ],
)
def test_only_plain_json_is_taken(headers: dict[bytes, bytes], is_refused: bool) -> None:
    """Anything else is a 415."""
    refusal = refuse_media(headers)

    assert (refusal is not None) is is_refused
    assert refusal is None or refusal.status == 415


@pytest.mark.parametrize(
    ("asked", "timeout_ms"),
    [(b"30", 30_000), (b"0.5", 500), (b"601", 600_000), (b"0.0001", 1), (b" 2 ", 2_000)],
)
def test_the_client_sets_its_deadline(asked: bytes, timeout_ms: int) -> None:
    """Seconds, capped at the most the gateway allows."""
    assert deadline_ms_of({b"x-request-timeout": asked}, 120, 600) == timeout_ms


@pytest.mark.parametrize(
    "asked", [b"", b"0", b"0.0", b"-1", b"nan", b"inf", b"1e3", b"5s", b"\xb2"]
)
def test_a_bad_deadline_is_refused(asked: bytes) -> None:
    """The error names the header."""
    refusal = deadline_ms_of({b"x-request-timeout": asked}, 120, 600)

    assert isinstance(refusal, Refusal)
    assert (refusal.status, refusal.param) == (400, "X-Request-Timeout")


def test_without_the_header_the_default_deadline_holds() -> None:
    """In milliseconds."""
    assert deadline_ms_of({}, 120, 600) == 120_000


@pytest.mark.parametrize(
    ("value", "is_valid"),
    [
        (TRACE, True),
        (TRACE.upper(), False),
        (b"ff" + TRACE[2:], False),
        (b"00-" + b"0" * 32 + TRACE[35:], False),
        (TRACE[:36] + b"0" * 16 + b"-01", False),
        (TRACE + b"\n", False),
        (b"", False),
    ],
)
def test_only_a_valid_traceparent_is_carried_on(value: bytes, is_valid: bool) -> None:
    """A malformed one is ignored, as W3C asks. Nobody outside can say that our processes record it."""
    carried = TRACE[:-2] + b"00" if is_valid else None

    assert traceparent_of({b"traceparent": value}) == carried
    assert traceparent_of({}) is None
