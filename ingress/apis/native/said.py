"""Reads what a completion says where a surface has to translate it: text where it is text, tool calls, a refusal. Pure.

What is no text is left out, never an error.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, TypedDict

import msgspec

from ingress.http.refusals import Refusal
from schemas.choices import Choice, first_choice
from schemas.errors import ErrorCode

__all__ = [
    "NOT_A_COMPLETION",
    "BesideText",
    "Said",
    "arguments_of",
    "function_of",
    "said_in",
    "said_in_events",
    "sound",
    "text_of",
]

NOT_A_COMPLETION: Final = Refusal(
    ErrorCode.UPSTREAM_ERROR, "The backend's answer is not a completion."
)
_TEXT_PARTS: Final = frozenset({"text", "output_text"})


class BesideText(TypedDict, total=False):
    """What else there may be than text; tool calls as the backend sent them."""

    tool_calls: list[Any]
    refusal: str


@dataclass(frozen=True, slots=True)
class Said:
    """What the first choice says."""

    text: str = ""
    tool_calls: list[Any] | None = None
    """As the backend sent them."""
    refusal: str | None = None
    finish_reason: str | None = None
    stop: str | None = None
    """The stop sequence that it ended with, where a backend says so (vLLM)."""
    logprobs: list[Any] | None = None
    """Of the tokens of its text, as the backend sent them."""

    @property
    def beside_text(self) -> BesideText:
        """What else there is, by name."""
        found: BesideText = {}
        if self.tool_calls:
            found["tool_calls"] = self.tool_calls
        if self.refusal:
            found["refusal"] = self.refusal
        return found


def said_in(body: bytes) -> Said | None:
    """What a whole answer or an event says; ``None`` where there is no choice that says anything."""
    choice = first_choice(body)
    return None if choice is None else _said(choice.said, choice)


def said_in_events(chunks: bytes) -> Iterator[Said]:
    """What each of whole server-sent events says that says anything."""
    for event in chunks.split(b"\n\n"):
        if event.startswith(b"data:") and (said := said_in(event[5:].strip())) is not None:
            yield said


def _said(message: dict[str, Any], choice: Choice) -> Said:
    calls, refusal = message.get("tool_calls"), message.get("refusal")
    return Said(
        _text(message.get("content")),
        calls if isinstance(calls, list) else None,
        sound(refusal) if isinstance(refusal, str) else None,
        choice.finish_reason if isinstance(choice.finish_reason, str) else None,
        sound(choice.stop_reason) if isinstance(choice.stop_reason, str) else None,
        None if choice.logprobs is None else _logprobs(choice.logprobs),
    )


def _text(content: Any) -> str:
    if isinstance(content, str):
        return sound(content)
    parts = content if isinstance(content, list) else ()
    texts = (
        part.get("text")
        for part in parts
        if isinstance(part, dict) and part.get("type", "text") in _TEXT_PARTS
    )
    return sound("".join(text for text in texts if isinstance(text, str)))


def _logprobs(given: Any) -> list[Any] | None:
    tokens = given.get("content") if isinstance(given, dict) else None
    return tokens if isinstance(tokens, list) else None


def function_of(call: dict[str, Any]) -> dict[str, Any]:
    """What is called, of a call or a piece of one."""
    function = call.get("function")
    return function if isinstance(function, dict) else {}


def arguments_of(function: dict[str, Any]) -> str:
    """Its arguments as a text; some servers send the object itself."""
    given = function.get("arguments")
    if isinstance(given, dict):
        return msgspec.json.encode(given).decode()
    return text_of(given)


def text_of(given: Any) -> str:
    """What is a text; nothing where it is something else."""
    return sound(given) if isinstance(given, str) else ""


def sound(text: str) -> str:
    """Half a surrogate pair is no text that can be sent."""
    return text if text.isascii() else text.encode(errors="replace").decode()
