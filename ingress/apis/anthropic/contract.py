"""Shapes of the bodies of Anthropic's surface: decides nothing, the OpenAPI document is made from them. Pure."""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypeAlias, TypedDict

__all__ = [
    "ContentBlock",
    "InputTokens",
    "Message",
    "MessageUsage",
    "ModelInfo",
    "ModelPage",
    "StopReason",
]

StopReason: TypeAlias = Literal["end_turn", "max_tokens", "stop_sequence", "tool_use", "refusal"]


class MessageUsage(TypedDict):
    """Tokens of a message; all of its input are the first three together."""

    input_tokens: int
    cache_creation_input_tokens: int
    cache_read_input_tokens: int
    output_tokens: int


class ContentBlock(TypedDict):
    """A text, or a call of a tool with its input."""

    type: Literal["text", "tool_use"]
    text: NotRequired[str]
    id: NotRequired[str]
    name: NotRequired[str]
    input: NotRequired[dict[str, Any]]


class Message(TypedDict):
    """Anthropic's message, as an answer."""

    id: str
    type: Literal["message"]
    role: Literal["assistant"]
    model: str
    content: list[ContentBlock]
    stop_reason: StopReason | None
    stop_sequence: str | None
    usage: MessageUsage


class InputTokens(TypedDict):
    """What counting found."""

    input_tokens: int


class ModelInfo(TypedDict):
    """A model, as Anthropic tells it."""

    type: Literal["model"]
    id: str
    display_name: str
    created_at: str
    """When its entry was last written (RFC 3339)."""
    lifecycle: Literal["active"]
    max_input_tokens: int | None
    """The context window, where the model states it."""
    max_tokens: int | None
    """The most that an output may be, where the model states it."""


class ModelPage(TypedDict):
    """Some of the models that a key may use, in the order of their names."""

    data: list[ModelInfo]
    first_id: str | None
    last_id: str | None
    has_more: bool
    """Whether there are others in the direction that was asked for."""
