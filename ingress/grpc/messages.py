"""Translates messages of the gRPC surface to the bodies that are posted over HTTP, and answers back. Pure.

A number of ``google.protobuf.Struct`` is a double: one that is whole is written as an integer. Source: the JSON mapping of
protobuf.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec
from google.protobuf import json_format
from google.protobuf.message import DecodeError, Message
from google.protobuf.struct_pb2 import Struct, Value

from ingress.http.refusals import Refusal
from ingress.requests.job_document import Job, JobStatus
from schemas.errors import ErrorCode
from schemas.proto.tallygate.inference.v1 import inference_pb2 as pb

__all__ = [
    "infer_response",
    "inference_body",
    "job_body",
    "job_message",
    "read_job_id",
    "stream_body",
    "stream_responses",
]

_EXACT_MAX: Final = 2**53
_NOT_A_MESSAGE: Final = Refusal(
    ErrorCode.INVALID_REQUEST, "The bytes are no message of this method."
)
_NO_COMPLETION: Final = Refusal(
    ErrorCode.UPSTREAM_ERROR, "The backend's answer cannot be told as a message."
)
_STATUSES: Final[Mapping[JobStatus, pb.JobStatus]] = {
    "queued": pb.JOB_STATUS_QUEUED,
    "running": pb.JOB_STATUS_RUNNING,
    "completed": pb.JOB_STATUS_COMPLETED,
    "failed": pb.JOB_STATUS_FAILED,
    "cancelled": pb.JOB_STATUS_CANCELLED,
    "expired": pb.JOB_STATUS_EXPIRED,
}
_EVENT: Final = b"data: "
_END: Final = b"[DONE]"


def inference_body(raw: bytes, request_id: str) -> bytes | Refusal:
    """What an ``InferRequest`` is over HTTP, under this id where it names none."""
    return _body(raw, pb.InferRequest(), {"request_id": request_id})


def stream_body(raw: bytes, request_id: str) -> bytes | Refusal:
    """What an ``InferStreamRequest`` is over HTTP, under this id where it names none."""
    return _body(raw, pb.InferStreamRequest(), {"request_id": request_id, "stream": True})


def job_body(raw: bytes, _: str) -> bytes | Refusal:
    """What a ``SubmitJobRequest`` is over HTTP."""
    return _body(raw, pb.SubmitJobRequest(), {})


def read_job_id(raw: bytes) -> str | Refusal:
    """The job that a ``GetJobRequest`` or ``CancelJobRequest`` names: they are the same on the wire."""
    try:
        return pb.GetJobRequest.FromString(raw).job_id
    except DecodeError:
        return _NOT_A_MESSAGE


def infer_response(body: bytes) -> bytes | Refusal:
    """The answer that over HTTP has this body."""
    return _parsed(body, pb.InferResponse())


def stream_responses(events: bytes) -> Iterator[bytes]:
    """The messages of server-sent events; an event without ``delta``, tool calls or refusal is the summary."""
    for event in events.split(b"\n\n"):
        told = event.removeprefix(_EVENT)
        if told in (event, _END):
            continue
        fields = msgspec.json.decode(told)
        if "latency_ms" in fields:
            fields = {"request_id": fields.pop("request_id"), "summary": fields}
        yield json_format.ParseDict(fields, pb.InferStreamResponse()).SerializeToString()


def job_message(job: Job) -> pb.Job | Refusal:
    """A job as a message."""
    message = pb.Job(
        id=job["id"],
        status=_STATUSES[job["status"]],
        model=job["model"],
        cost_usd=job.get("cost_usd"),
        backend=job.get("backend"),
    )
    message.created_at.seconds, message.expires_at.seconds = job["created_at"], job["expires_at"]
    if (usage := job.get("usage")) is not None:
        message.usage.CopyFrom(pb.UsageSummary(**usage))
    if (error := job.get("error")) is not None:
        message.error.code, message.error.message = error["code"].value, error["message"]
        message.error.http_status = error["status"]
    if (result := job.get("result")) is not None:
        try:
            json_format.Parse(msgspec.json.encode(result), message.result)
        except json_format.ParseError:
            return _NO_COMPLETION
    return message


def _body(raw: bytes, message: Any, more: Mapping[str, Any]) -> bytes | Refusal:
    try:
        message.ParseFromString(raw)
    except DecodeError:
        return _NOT_A_MESSAGE
    try:
        fields = {field.name: _plain(value) for field, value in message.ListFields()}
    except ValueError:
        return Refusal(ErrorCode.INVALID_REQUEST, "A number is none of JSON.")
    return msgspec.json.encode({**more, **fields})


def _plain(value: Any) -> Any:
    """What a field stands for in JSON. Raises ``ValueError`` for a number that JSON does not have."""
    if isinstance(value, Struct):
        return {name: _plain(each) for name, each in value.fields.items()}
    if not isinstance(value, Value):
        return _number(value) if isinstance(value, float) else value
    match value.WhichOneof("kind"):
        case "struct_value":
            return _plain(value.struct_value)
        case "list_value":
            return [_plain(each) for each in value.list_value.values]
        case "number_value":
            return _number(value.number_value)
        case "string_value":
            return value.string_value
        case "bool_value":
            return value.bool_value
        case _:
            return None


def _number(number: float) -> int | float:
    if number != number or abs(number) == float("inf"):  # noqa: PLR0124  # it is how NaN is told
        raise ValueError("not a number of JSON")
    return int(number) if abs(number) <= _EXACT_MAX and number.is_integer() else number


def _parsed(body: bytes, message: Message) -> bytes | Refusal:
    try:
        json_format.Parse(body, message, ignore_unknown_fields=True)
    except json_format.ParseError:
        return _NO_COMPLETION
    return message.SerializeToString()
