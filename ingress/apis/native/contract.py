"""Shapes of the native surface's bodies: decides nothing, the OpenAPI document is made from them. Pure."""

from __future__ import annotations

from typing import Annotated, Any, NotRequired, TypeAlias, TypedDict

import msgspec

from ingress.apis.answer_format import UsageSummary
from ingress.apis.native.said import BesideText

__all__ = ["InferenceDelta", "InferenceRequest", "InferenceResponse", "InferenceSummary", "JobBody"]

Messages: TypeAlias = Annotated[list[dict[str, Any]], msgspec.Meta(min_length=1)]
"""Messages of a chat completion."""
Text: TypeAlias = Annotated[str, msgspec.Meta(min_length=1)]
ClientId: TypeAlias = Annotated[
    str,
    msgspec.Meta(
        pattern="^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$",
        extra_json_schema={"format": "uuid"},
    ),
]


class InferenceRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A request under an id of its client's own: within an organization the same one is executed once."""

    request_id: ClientId
    model: Text
    payload: Text | Messages
    """A text, or messages of a chat completion."""
    parameters: dict[str, Any] | None = None
    """Further fields of the chat completion, but for `model`, `messages`, `stream`, `stream_options` and `n`."""
    stream: bool | None = None


class InferenceSummary(TypedDict):
    """What is told at the end of a stream."""

    request_id: ClientId
    model: str
    usage: UsageSummary | None
    backend: str | None
    latency_ms: int


class InferenceResponse(InferenceSummary, BesideText):
    """A finished request: the text of its first choice, its tool calls or refusal where there are any, and its use."""

    output: str


class InferenceDelta(BesideText):
    """A piece of a streamed answer."""

    request_id: ClientId
    delta: NotRequired[str]


class JobBody(msgspec.Struct, frozen=True):
    """A chat completion that runs as a job: its fields, or `payload` in the place of `messages`."""

    model: Text
    payload: Text | Messages | None = None
    messages: list[dict[str, Any]] | None = None
    parameters: dict[str, Any] | None = None
    ttl_s: Annotated[float, msgspec.Meta(gt=0, le=86_400)] | None = None
    """Seconds until it expires: 600 where nothing is said, and at most. Of a flex job 3,600, and 86,400 at most."""
