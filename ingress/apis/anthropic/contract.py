"""Shapes of the bodies of Anthropic's surface: decides nothing, the OpenAPI document is made from them. Pure."""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypeAlias, TypedDict

__all__ = ["ContentBlock", "InputTokens", "Message", "MessageUsage", "StopReason"]

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
