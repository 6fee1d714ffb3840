"""What a response repeats of its request, as one piece of JSON: clients look for it in every response. Pure."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from ingress.apis.parsed_request import Fields

__all__ = [
    "NOTHING_SHOWN",
    "SHOWN_BYTES_MAX",
    "Shown",
    "is_stored",
    "read_shown",
    "shown_in",
    "shown_of",
]

SHOWN_BYTES_MAX: Final = 64 * 1024
"""What waits for an answer holds no more of its request than that: beyond, its long members are not repeated."""
_MEMBER_BYTES_MAX: Final = 1024
_ELSE: Final = {"tools": [], "tool_choice": "auto", "text": {"format": {"type": "text"}}}
_AS_THEY_ARE: Final = (
    "instructions",
    "max_output_tokens",
    "max_tool_calls",
    "previous_response_id",
    "prompt_cache_key",
    "safety_identifier",
    "service_tier",
    "temperature",
    "top_logprobs",
    "top_p",
    "user",
)
_REASONING: Final = ("effort", "summary")


class Shown(msgspec.Struct, frozen=True, array_like=True):
    """What is kept of a request beside its chat completion, to make responses of."""

    members: msgspec.Raw
    """Of every response: a JSON object."""
    instructions: int = 0
    """How many messages of its chat completion are its own alone, and not of the conversation."""
    owner: str | None = None
    """Whose own it is; ``None`` for one of a program."""

    def is_open_to(self, owner: str | None) -> bool:
        """Whether a caller may see it: programs see all of their organization, users only their own."""
        return owner is None or owner == self.owner

    def encoded(self) -> bytes:
        """As it goes into the log."""
        return msgspec.json.encode(self)


def read_shown(encoded: bytes) -> Shown:
    """What was encoded; raises ``msgspec.DecodeError`` for what is none of ours."""
    return msgspec.json.decode(encoded, type=Shown)


def shown_in(encoded: bytes | None) -> Shown | None:
    """The same, of what may be absent, or none of ours."""
    try:
        return None if encoded is None else read_shown(encoded)
    except msgspec.DecodeError:
        return None


def shown_of(fields: Fields, owner: str | None = None) -> Shown:
    """What is kept of a request that was checked."""
    instructions = 1 if fields.get("instructions") else 0
    return Shown(msgspec.Raw(_members(fields)), instructions, owner)


def is_stored(fields: Fields) -> bool:
    """Whether it is kept: unless it says otherwise."""
    return fields.get("store") is not False


def _members(fields: Fields) -> bytes:
    """What it did not say is null, or OpenAI's default."""
    text, reasoning = fields.get("text") or {}, fields.get("reasoning") or {}
    shown: dict[str, Any] = {name: fields.get(name) for name in _AS_THEY_ARE}
    shown |= {
        "background": fields.get("background") is True,
        "metadata": fields.get("metadata") or {},
        "parallel_tool_calls": fields.get("parallel_tool_calls") is not False,
        "reasoning": {name: reasoning.get(name) for name in _REASONING},
        "store": is_stored(fields),
        "text": {**text, "format": text.get("format") or {"type": "text"}},
        "tool_choice": fields.get("tool_choice") or "auto",
        "tools": list(map(_tool, fields.get("tools") or ())),
        "truncation": "disabled",
    }
    encoded = msgspec.json.encode(shown)
    if len(encoded) <= SHOWN_BYTES_MAX:
        return encoded
    return msgspec.json.encode(
        {
            name: value if _is_small(name, value) else _ELSE.get(name)
            for name, value in shown.items()
        }
    )


def _is_small(name: str, value: Any) -> bool:
    """Metadata are bounded where they are checked."""
    return name == "metadata" or len(msgspec.json.encode(value)) <= _MEMBER_BYTES_MAX


def _tool(tool: Fields) -> Fields:
    return {"parameters": None, "strict": None, **tool}


NOTHING_SHOWN: Final = shown_of({"background": True})
"""Of a request that is not looked up."""
