"""Messages are what is posted over HTTP, and answers are what is answered there."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from google.protobuf.json_format import ParseDict
from google.protobuf.struct_pb2 import Value
from hypothesis import given
from hypothesis import strategies as st

from ingress.grpc.messages import (
    infer_response,
    inference_body,
    job_body,
    job_message,
    read_job_id,
    stream_body,
    stream_responses,
)
from ingress.http.refusals import Refusal
from ingress.requests.job_document import Job
from schemas.errors import ErrorCode
from schemas.proto.tallygate.inference.v1 import inference_pb2 as pb
from tests.unit.ingress.grpc_gateway import CLIENT_ID

_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(st.text(), _JSON, max_size=4))
def test_parameters_are_as_they_were_written(parameters: dict[str, Any]) -> None:
    """Whole numbers stay whole: `max_tokens` of 5.0 is refused by backends."""
    raw = ParseDict({"parameters": parameters}, pb.InferRequest()).SerializeToString()

    body = inference_body(raw, CLIENT_ID)

    assert isinstance(body, bytes)
    assert msgspec.json.decode(body).get("parameters", {}) == parameters


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_a_number_that_json_does_not_have_is_refused(number: float) -> None:
    """Protobuf has it."""
    message = pb.InferRequest(payload=Value(number_value=number))

    assert isinstance(inference_body(message.SerializeToString(), CLIENT_ID), Refusal)


def test_a_field_that_is_not_sent_is_not_posted() -> None:
    """What is missing is told as over HTTP."""
    assert inference_body(b"", "i") == b'{"request_id":"i"}'
    assert stream_body(b"", "i") == b'{"request_id":"i","stream":true}'


def test_the_time_of_a_job_may_be_left_out() -> None:
    """An explicit zero is one."""
    assert job_body(pb.SubmitJobRequest(model="m").SerializeToString(), "") == b'{"model":"m"}'
    zero = pb.SubmitJobRequest(model="m", ttl_s=0).SerializeToString()
    assert job_body(zero, "") == b'{"model":"m","ttl_s":0}'


@pytest.mark.parametrize("read", [inference_body, stream_body, job_body])
def test_bytes_that_are_no_message_are_refused(read: Any) -> None:
    """Whatever the method."""
    assert isinstance(read(b"\xff\xff", ""), Refusal)
    assert isinstance(read_job_id(b"\xff\xff"), Refusal)


def test_nesting_without_end_is_refused() -> None:
    """A hundred levels are what protobuf reads."""
    raw = b""
    for _ in range(150):
        for field in (0x0A, 0x32):  # a list's values, and a value that is a list
            raw = bytes([field]) + _length(raw) + raw

    assert isinstance(inference_body(b"\x1a" + _length(raw) + raw, ""), Refusal)


def _length(raw: bytes) -> bytes:
    low, high = len(raw) & 0x7F, len(raw) >> 7
    return bytes([low | 0x80, high]) if high else bytes([low])


def test_an_answer_without_usage_has_none() -> None:
    """Null is absent."""
    body = b'{"request_id":"r","model":"m","usage":null,"backend":null,"latency_ms":1,"output":"x"}'

    answer = infer_response(body)

    assert isinstance(answer, bytes)
    told = pb.InferResponse.FromString(answer)
    assert (told.HasField("usage"), told.HasField("backend"), told.output) == (False, False, "x")


def test_events_become_messages() -> None:
    """Comments and the end mark become none."""
    events = (
        b": ping\n\n"
        b'data: {"request_id":"r","delta":"a","tool_calls":[{"index":0}]}\n\n'
        b'data: {"request_id":"r","model":"m","usage":null,"backend":"b","latency_ms":3}\n\n'
        b"data: [DONE]\n\n"
    )

    piece, last = map(pb.InferStreamResponse.FromString, stream_responses(events))

    assert (piece.delta, piece.tool_calls[0]["index"], piece.HasField("summary")) == ("a", 0, False)
    assert (last.request_id, last.summary.model, last.summary.latency_ms) == ("r", "m", 3)


_JOB: Job = {
    "id": "j",
    "object": "job",
    "status": "failed",
    "created_at": 1_700_000_000,
    "expires_at": 1_700_000_600,
    "model": "m",
}


def test_a_result_that_is_no_object_cannot_be_told() -> None:
    """A message has no room for it."""
    job: Job = {**_JOB, "status": "completed", "result": msgspec.Raw(b"[1]")}  # type: ignore[typeddict-item]

    assert isinstance(job_message(job), Refusal)


def test_a_job_that_failed_says_why() -> None:
    """By its code."""
    job: Job = {
        **_JOB,
        "error": {"code": ErrorCode.UPSTREAM_ERROR, "message": "no", "status": 502},
        "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
        "cost_usd": "0.1",
        "backend": "b",
    }

    message = job_message(job)

    assert isinstance(message, pb.Job)
    assert (message.status, message.error.code) == (pb.JOB_STATUS_FAILED, "upstream_error")
    assert (message.usage.total_tokens, message.cost_usd) == (3, "0.1")
    assert message.created_at.seconds == 1_700_000_000
