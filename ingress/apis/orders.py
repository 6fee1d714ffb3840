"""What the body of an inference route orders: a model, a call, the dialect of its answer. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from ingress.apis.catalogue import find_model
from ingress.apis.dialects import ChatDialect, Dialect, InferenceDialect
from ingress.apis.native.inference import in_native_terms, read_inference
from ingress.apis.native.job_request import read_job
from ingress.apis.openai.chat import Call, model_name, read_call
from ingress.auth.api_key import Caller
from ingress.http.refusals import Refusal
from schemas.config_state import Snapshot


@dataclass(frozen=True, slots=True)
class ParsedRequest:
    """A valid request of a caller who may make it."""

    model: str
    call: Call
    dialect: Dialect
    client_key: str | None = None
    """An id of the client's own, which makes the request idempotent where no header does."""
    ttl_ms: int | None = None
    """Milliseconds the body gives the request; ``None`` leaves it to the headers."""


RequestParser: TypeAlias = Callable[[dict[str, Any], Snapshot, Caller], ParsedRequest | Refusal]


def chat_order(
    fields: dict[str, Any], snapshot: Snapshot, caller: Caller
) -> ParsedRequest | Refusal:
    """The order in the body of ``/v1/chat/completions``."""
    return _order(fields, snapshot, caller, ChatDialect())


def inference_order(
    fields: dict[str, Any], snapshot: Snapshot, caller: Caller
) -> ParsedRequest | Refusal:
    """The order in the body of ``/v1/inference``."""
    request = read_inference(fields)
    if isinstance(request, Refusal):
        return request
    dialect = InferenceDialect(request.client_request_id, str(request.chat["model"]))
    order = _order(request.chat, snapshot, caller, dialect)
    if isinstance(order, Refusal):
        return in_native_terms(order)
    return replace(order, client_key=request.client_request_id)


def job_order(
    fields: dict[str, Any], snapshot: Snapshot, caller: Caller
) -> ParsedRequest | Refusal:
    """The order in the body of ``/v1/jobs``."""
    request = read_job(fields)
    if isinstance(request, Refusal):
        return request
    order = _order(request.chat, snapshot, caller, ChatDialect("native"))
    return order if isinstance(order, Refusal) else replace(order, ttl_ms=request.ttl_ms)


def _order(
    chat: dict[str, Any], snapshot: Snapshot, caller: Caller, dialect: Dialect
) -> ParsedRequest | Refusal:
    name = model_name(chat)
    if isinstance(name, Refusal):
        return name
    model = find_model(snapshot, caller, name)
    if isinstance(model, Refusal):
        return model
    call = read_call(chat, model)
    return call if isinstance(call, Refusal) else ParsedRequest(name, call, dialect)
