"""What became of a request, in the words of its client."""

from __future__ import annotations

import msgspec
import pytest

from ingress.requests.outcomes import cost_nothing, end_by_state, end_in_outcome, status_of
from schemas.events import Denial
from schemas.frames import Terminal, Usage
from tests.support.outcomes import OUTCOME


def test_an_outcome_is_told_like_the_frame_that_ended_it() -> None:
    """All attempts together, the last one's backend."""
    assert end_in_outcome(OUTCOME) == Terminal(
        200,
        body=b"{}",
        backend="b1",
        latency_ms=500,
        usage=Usage(10, 14, 12, estimated=True),
    )


def test_a_result_that_was_not_kept_is_lost() -> None:
    """An empty body would read as a success."""
    end = end_in_outcome(msgspec.structs.replace(OUTCOME, result=None))

    assert (end.http_status, end.error_code) == (502, "result_lost")


def test_a_refusal_keeps_its_limit() -> None:
    """The outcome carries everything the answer did."""
    denial = Denial(limit_id="x", limit_type="budget", unit="nano_usd", current_usage=1, limit=1)
    refused = msgspec.structs.replace(
        OUTCOME, http_status=402, error_code="BUDGET_EXCEEDED", denial=denial, attempts=[]
    )
    end = end_in_outcome(refused)

    assert (end.http_status, end.error_code, end.denial) == (402, "BUDGET_EXCEEDED", denial)
    assert end.usage is None


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (None, "completed"),
        ("request_cancelled", "cancelled"),
        ("deadline_exceeded", "expired"),
        ("upstream_error", "failed"),
        ("a code of a newer version", "failed"),
    ],
)
def test_every_end_has_a_status(code: str | None, status: str) -> None:
    """Told from the error code alone."""
    assert status_of(Terminal(200, error_code=code)) == status


@pytest.mark.parametrize(
    ("code", "usage", "is_free"),
    [
        (None, Usage(0, 0, 0, estimated=False), False),
        ("RATE_LIMIT_EXCEEDED", None, True),
        ("BUDGET_EXCEEDED", None, True),
        ("no_backend_available", None, True),
        ("upstream_error", Usage(0, 0, None, estimated=False), True),
        ("upstream_error", Usage(0, 0, 5, estimated=False), False),
        ("upstream_interrupted", Usage(1, 0, None, estimated=True), False),
        ("result_lost", None, False),
        ("upstream_interrupted", None, False),
        ("deadline_exceeded", None, False),
        ("a code of a newer version", None, False),
    ],
)
def test_only_a_failure_known_to_be_free_may_be_repeated(
    code: str | None, usage: Usage | None, is_free: bool
) -> None:
    """Where the end does not say what was used, it may have been billed."""
    assert cost_nothing(Terminal(500, error_code=code, usage=usage)) is is_free


def test_states_that_imply_an_end() -> None:
    """The others have an outcome, or none yet."""
    implied = {
        state: end_by_state(state) for state in ("CANCELLED", "VOIDED", "UNKNOWN", "REFUSED")
    }
    codes = {state: end.error_code if end else None for state, end in implied.items()}

    assert codes == {
        "CANCELLED": "request_cancelled",
        "VOIDED": "deadline_exceeded",
        "UNKNOWN": "upstream_interrupted",
        "REFUSED": None,
    }
