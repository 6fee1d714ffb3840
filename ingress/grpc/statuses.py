"""Tells refusals in gRPC's terms: a status of the table of errors, and google.rpc details that programs match on. Pure.

Sources: google.rpc.Status and error_details; the status of each error stands in ``schemas/errors.py``.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import grpc
import msgspec
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from ingress.http.refusals import Headers, Refusal, limit_facts, told_headers
from schemas.errors import grpc_status

__all__ = ["DOMAIN", "GrpcStatus", "metadata_of", "status_of"]

DOMAIN: Final = "tallygate"
_DETAILS: Final = "grpc-status-details-bin"
_MESSAGE_CHARS_MAX: Final = 1_000
"""Trailing metadata has 8 KiB; a character outside of ASCII takes nine bytes there."""
_VALUE_CHARS_MAX: Final = 200

Metadata = tuple[tuple[str, str | bytes], ...]


class GrpcStatus(NamedTuple):
    """How a call ends that is refused."""

    code: grpc.StatusCode
    message: str
    metadata: Metadata


def status_of(refusal: Refusal, request_id: str, more: Headers) -> GrpcStatus:
    """The status of a refusal, with the headers that it has over HTTP as trailing metadata."""
    code = grpc.StatusCode[grpc_status(refusal.status)]
    message = refusal.message[:_MESSAGE_CHARS_MAX]
    status = status_pb2.Status(code=code.value[0], message=message)
    for detail in _details(refusal, request_id):
        status.details.add().Pack(detail)
    said = {name for name, _ in more}
    headers = [*more, *(each for each in told_headers(refusal) if each[0] not in said)]
    metadata = metadata_of(headers, request_id)
    return GrpcStatus(code, message, (*metadata, (_DETAILS, status.SerializeToString())))


def metadata_of(headers: Headers, request_id: str) -> Metadata:
    """Headers of an answer as trailing metadata."""
    told = ((name.decode("ascii"), value.decode("latin-1")) for name, value in headers)
    return (*told, ("x-request-id", request_id))


def _details(refusal: Refusal, request_id: str) -> list[Message]:
    info = error_details_pb2.ErrorInfo(reason=refusal.code.value.upper(), domain=DOMAIN)
    info.metadata.update(_facts(refusal))
    details: list[Message] = [info, error_details_pb2.RequestInfo(request_id=request_id)]
    if refusal.wait_ms is not None:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromMilliseconds(refusal.wait_ms)
        details.append(retry)
    if refusal.param is not None:
        bad = error_details_pb2.BadRequest()
        message = refusal.message[:_VALUE_CHARS_MAX]
        bad.field_violations.add(field=refusal.param[:_VALUE_CHARS_MAX], description=message)
        details.append(bad)
    return details


def _facts(refusal: Refusal) -> dict[str, str]:
    """What over HTTP stands beside the code, as texts."""
    facts: dict[str, object] = {"code": refusal.code.value, "http_status": refusal.status}
    if refusal.denial is not None:
        facts |= {name: value for name, value in limit_facts(refusal).items() if value is not None}
    facts |= {"upstream_code": refusal.said.code} if refusal.said.code is not None else {}
    return {name: _text(value)[:_VALUE_CHARS_MAX] for name, value in facts.items()}


def _text(value: object) -> str:
    return bytes(value).decode() if isinstance(value, msgspec.Raw) else str(value)
