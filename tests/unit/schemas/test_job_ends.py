"""How a job ended, in few bytes."""

from __future__ import annotations

import msgspec
import pytest

from schemas.events import Denial, RecordRef, RequestFinished, Said
from schemas.frames import Usage
from schemas.job_ends import encode_end, end_of, read_end
from tests.support.events import attempt, finished


def done(result: bytes | None = b"{}", ref: RecordRef | None = None) -> RequestFinished:
    outcome = finished([attempt(1, input_tokens=5, output_tokens=7, cost_nano_usd=12)], [])
    return msgspec.structs.replace(
        outcome,
        status="completed",
        http_status=200,
        error_code=None,
        error_message=None,
        result=result,
        result_ref=ref,
    )


def test_an_end_comes_back_as_it_went() -> None:
    """With its usage; a summary of a usual job takes less than a hundred bytes."""
    end = end_of(done())

    assert (end.http_status, end.error_code) == (200, None)
    assert end.usage == Usage(5, 7, 12, estimated=False)
    assert read_end(encode_end(end)) == end
    assert encode_end(end) == '[200,"b1",[5,7,12,false,0,0,0]]'


def test_a_refusal_tells_its_limit() -> None:
    """Lists say by how much it was passed."""
    denial = Denial(limit_id="org", limit_type="budget", unit="nano_usd", current_usage=9, limit=10)
    outcome = msgspec.structs.replace(done(), error_code="BUDGET_EXCEEDED", denial=denial)
    end = end_of(outcome)

    assert end.denial == denial
    assert read_end(encode_end(end)) == end


def test_a_backends_refusal_tells_what_it_named() -> None:
    """Lists and the job itself say the same."""
    said = Said("context_length_exceeded", "messages")
    end = end_of(msgspec.structs.replace(done(), error_code="upstream_rejected", said=said))

    assert end.said == said
    assert read_end(encode_end(end)) == end


def test_a_long_message_is_cut() -> None:
    """What a backend says is not the ledger's to keep."""
    outcome = msgspec.structs.replace(done(), error_code="x", error_message="m" * 5_000)

    assert len(encode_end(end_of(outcome))) < 250


def test_a_result_that_was_not_kept_is_lost_and_one_that_stands_elsewhere_is_not() -> None:
    """Lists say what a lookup would find."""
    ref = RecordRef(topic="inference.results.v1", partition=0, offset=1)

    assert end_of(done(None)).error_code == "result_lost"
    assert end_of(done(None, ref)).error_code is None


@pytest.mark.parametrize("text", ["", "junk", "{}", "[]", '["200"]', "[200,5]", "null"])
def test_a_text_that_is_no_end_is_none(text: str) -> None:
    """Whatever stands there."""
    assert read_end(text) is None
