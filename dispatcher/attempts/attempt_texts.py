"""Says what was asked and answered as OpenTelemetry's conventions have messages, where spans may hold texts. Pure.

Source: OpenTelemetry, generative AI, ``gen_ai.input.messages`` and ``gen_ai.output.messages``.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

__all__ = ["TEXT_BYTES_MAX", "input_messages", "output_messages"]

TEXT_BYTES_MAX: Final = 64 * 1024
"""Of one attribute; what is longer is left out whole, because half of it is no JSON."""


class _Said(msgspec.Struct, frozen=True):
    role: str = ""
    content: Any = None


class _Asked(msgspec.Struct, frozen=True):
    messages: list[_Said] = []


class _Choice(msgspec.Struct, frozen=True):
    message: _Said = _Said()
    finish_reason: str | None = None


class _Answered(msgspec.Struct, frozen=True):
    choices: list[_Choice] = []


def input_messages(payload: bytes) -> str | None:
    """The messages of a body; ``None`` where it has none, or too long ones."""
    try:
        asked = msgspec.json.decode(payload, type=_Asked)
    except (msgspec.DecodeError, RecursionError):
        return None
    return _text([_message(said) for said in asked.messages])


def output_messages(body: bytes) -> str | None:
    """The messages of a whole answer; ``None`` of a stream, of an error, of one that is too long."""
    try:
        answered = msgspec.json.decode(body, type=_Answered)
    except (msgspec.DecodeError, RecursionError):
        return None
    return _text(
        [
            {**_message(choice.message), "finish_reason": choice.finish_reason or ""}
            for choice in answered.choices
        ]
    )


def _message(said: _Said) -> dict[str, Any]:
    content = said.content
    parts = content if isinstance(content, list) else [{"type": "text", "content": content or ""}]
    return {"role": said.role, "parts": parts}


def _text(messages: list[dict[str, Any]]) -> str | None:
    written = msgspec.json.encode(messages)
    return written.decode() if messages and len(written) <= TEXT_BYTES_MAX else None
