"""Decides how the native inference route maps to a chat completion; drops no field silently."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, replace
from typing import Any, Final

from ingress.http.refusals import Refusal
from schemas.errors import ErrorCode

_KNOWN: Final = frozenset({"request_id", "model", "payload", "parameters", "stream"})
_RESERVED: Final = ("model", "messages", "stream", "stream_options", "n")


@dataclass(frozen=True, slots=True)
class InferenceRequest:
    """A native request: the id its client knows it by, and the chat completion it stands for."""

    client_request_id: str
    chat: dict[str, Any]


def read_inference(fields: dict[str, Any]) -> InferenceRequest | Refusal:
    """The request in ``fields``, or the first field that is wrong."""
    unknown = sorted(fields.keys() - _KNOWN)
    if unknown:
        return _invalid(unknown[0][:64], "is not a field of this route")
    request_id = fields.get("request_id")
    if not isinstance(request_id, str) or not _is_uuid(request_id):
        return _invalid("request_id", "must be a UUID")
    messages = read_messages(fields.get("payload"))
    if isinstance(messages, Refusal):
        return messages
    parameters = read_parameters(fields)
    if isinstance(parameters, Refusal):
        return parameters
    chat = {**parameters, "model": fields.get("model"), "messages": messages}
    if fields.get("stream") is not None:
        chat["stream"] = fields["stream"]
    return InferenceRequest(request_id, chat)


def read_messages(payload: Any) -> list[Any] | Refusal:
    """The messages that a payload, a text or a list of messages, stands for."""
    if isinstance(payload, str) and payload:
        return [{"role": "user", "content": payload}]
    if not isinstance(payload, list) or not payload:
        return _invalid("payload", "must be a non-empty string or list of messages")
    return payload


def read_parameters(fields: dict[str, Any]) -> dict[str, Any] | Refusal:
    """The further fields of the chat completion; none may replace what the request itself says."""
    parameters = fields.get("parameters")
    if parameters is None:
        return {}
    if not isinstance(parameters, dict):
        return _invalid("parameters", "must be an object")
    for name in _RESERVED:
        if name in parameters:
            return _invalid(f"parameters.{name}", "is not allowed here")
    return parameters


def in_native_terms(refusal: Refusal) -> Refusal:
    """A refusal of the chat completion, under the names its fields have on this route."""
    if refusal.param is None or refusal.param in _KNOWN:
        return refusal
    name = refusal.param
    if name.startswith("messages"):
        native = f"payload{name.removeprefix('messages')}"
    else:
        native = f"parameters.{name}"
    return replace(refusal, param=native, message=refusal.message.replace(name, native, 1))


def _invalid(field: str, what: str) -> Refusal:
    return Refusal(ErrorCode.INVALID_REQUEST, f"{field} {what}.", param=field)


def _is_uuid(text: str) -> bool:
    """The canonical form only; ``uuid.UUID`` also reads braces, URNs and missing hyphens."""
    try:
        return str(uuid.UUID(text)) == text.lower()
    except ValueError:
        return False
