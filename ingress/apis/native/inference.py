"""Decides how the native inference route maps to a chat completion and back; drops no field silently. Pure."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from ingress.apis.answer_format import (
    DONE,
    AnswerFormat,
    data_event,
    error_event,
    usage_object,
)
from ingress.apis.native.contract import (
    InferenceDelta,
    InferenceRequest,
    InferenceResponse,
    InferenceSummary,
)
from ingress.apis.native.said import NOT_A_COMPLETION, Said, said_in, said_in_events
from ingress.apis.openai import chat
from ingress.apis.parsed_request import Fields, ParsedRequest, invalid
from ingress.auth.caller import Caller
from ingress.http.refusals import Refusal
from schemas.config_state import Snapshot
from schemas.frames import Terminal

_KNOWN: Final = frozenset(InferenceRequest.__struct_fields__)
_RESERVED: Final = ("model", "messages", "stream", "stream_options", "n")


@dataclass(frozen=True, slots=True)
class NativeRequest:
    """A native request: the id its client knows it by, and the chat completion it stands for."""

    client_request_id: str
    chat: dict[str, Any]


def parse(fields: Fields, snapshot: Snapshot, caller: Caller) -> ParsedRequest | Refusal:
    """The chat completion that a native body stands for, under its client's id."""
    request = read_inference(fields)
    if isinstance(request, Refusal):
        return request
    parsed = chat.parse(request.chat, snapshot, caller)
    if isinstance(parsed, Refusal):
        return in_native_terms(parsed)
    return msgspec.structs.replace(parsed, client_key=request.client_request_id)


def format_answer(parsed: ParsedRequest, _: str) -> AnswerFormat:
    """The text alone, under the client's id."""
    assert parsed.client_key is not None
    return InferenceFormat(parsed.client_key, parsed.model)


@dataclass(frozen=True, slots=True)
class InferenceFormat:
    """The text of a completion, whose client knows the request by an id of its own."""

    client_request_id: str
    model: str

    def body(self, terminal: Terminal) -> bytes | Refusal:
        """The first choice's text, its tool calls where it has some, and usage; 502 when the backend's body says
        nothing of the kind."""
        said = said_in(terminal.body)
        if said is None:
            return NOT_A_COMPLETION
        body: InferenceResponse = {
            **self._summary(terminal),
            "output": said.text,
            **said.beside_text,
        }
        return msgspec.json.encode(body)

    def events(self, chunks: bytes) -> bytes:
        """One event for each piece of text, and for each piece of a tool call."""
        return b"".join(map(self._event, said_in_events(chunks)))

    def _event(self, said: Said) -> bytes:
        if not (said.text or said.beside_text):
            return b""  # A role alone.
        piece: InferenceDelta = {"request_id": self.client_request_id}
        if said.text:
            piece["delta"] = said.text
        return data_event({**piece, **said.beside_text})

    def last_events(self, terminal: Terminal) -> bytes:
        """The summary, and the end mark."""
        return data_event(self._summary(terminal)) + DONE

    def failed_events(self, refusal: Refusal, _: str) -> bytes:
        """The error."""
        return error_event(refusal)

    def _summary(self, terminal: Terminal) -> InferenceSummary:
        return {
            "request_id": self.client_request_id,
            "model": self.model,
            "usage": usage_object(terminal.usage),
            "backend": terminal.backend,
            "latency_ms": terminal.latency_ms,
        }


def read_inference(fields: dict[str, Any]) -> NativeRequest | Refusal:
    """The request in ``fields``, or the first field that is wrong."""
    unknown = sorted(fields.keys() - _KNOWN)
    if unknown:
        return invalid(unknown[0][:64], "is not a field of this route")
    request_id = fields.get("request_id")
    if not isinstance(request_id, str) or not _is_uuid(request_id):
        return invalid("request_id", "must be a UUID")
    messages = read_messages(fields.get("payload"))
    if isinstance(messages, Refusal):
        return messages
    parameters = read_parameters(fields)
    if isinstance(parameters, Refusal):
        return parameters
    chat = {**parameters, "model": fields.get("model"), "messages": messages}
    if fields.get("stream") is not None:
        chat["stream"] = fields["stream"]
    return NativeRequest(request_id, chat)


def read_messages(payload: Any) -> list[Any] | Refusal:
    """The messages that a payload, a text or a list of messages, stands for."""
    if isinstance(payload, str) and payload:
        return [{"role": "user", "content": payload}]
    if not isinstance(payload, list) or not payload:
        return invalid("payload", "must be a non-empty string or list of messages")
    return payload


def read_parameters(fields: dict[str, Any]) -> dict[str, Any] | Refusal:
    """The further fields of the chat completion; none may replace what the request itself says."""
    parameters = fields.get("parameters")
    if parameters is None:
        return {}
    if not isinstance(parameters, dict):
        return invalid("parameters", "must be an object")
    for name in _RESERVED:
        if name in parameters:
            return invalid(f"parameters.{name}", "is not allowed here")
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
    return msgspec.structs.replace(
        refusal, param=native, message=refusal.message.replace(name, native, 1)
    )


def _is_uuid(text: str) -> bool:
    """The canonical form only; ``uuid.UUID`` also reads braces, URNs and missing hyphens."""
    try:
        return str(uuid.UUID(text)) == text.lower()
    except ValueError:
        return False
