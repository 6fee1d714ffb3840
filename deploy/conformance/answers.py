"""The answer of a backend to a question of the conformance kit, and what can be read from it. Pure.

It shares nothing with the reader of the dispatcher: what the kit says of a backend is a second opinion.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final, Literal

__all__ = ["Answer", "Usage"]

_UTF8_MARK: Final = "\ufeff"
_OK: Final = 200
_REFUSALS: Final = frozenset({400, 422})
_SHOWN_CHARS: Final = 200


@dataclass(frozen=True)
class Usage:
    """The token counts that a backend reported, with the names of everything else beside them."""

    input_tokens: int
    output_tokens: int
    others: tuple[str, ...] = ()

    def __str__(self) -> str:
        counts = f"{self.input_tokens} in, {self.output_tokens} out"
        return f"{counts}; also {', '.join(self.others)}" if self.others else counts


@dataclass(frozen=True)
class Answer:
    """What came back within the bounds of a question."""

    status: int = 0
    """0 where no head came."""
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    ended: Literal["whole", "cut", "late", "large", "enough", "unasked"] = "whole"
    """``late`` and ``large``: a bound was met first; ``enough``: the kit left; ``unasked``: no time was left."""
    why: str = ""
    """What the client said of an answer that did not come whole."""

    @property
    def is_ok(self) -> bool:
        return self.status == _OK

    @property
    def is_refusal(self) -> bool:
        """Whether it says that a field is wrong; not that it is busy, wants another key, or has no such model."""
        return self.status in _REFUSALS

    @property
    def text(self) -> str:
        return self.body.decode("utf-8", "replace").removeprefix(_UTF8_MARK)

    @cached_property
    def document(self) -> dict[str, Any]:
        """The body as a JSON object; empty where it is none."""
        return _object(self.text)

    @property
    def is_stream(self) -> bool:
        return self.headers.get("content-type", "").lower().startswith("text/event-stream")

    @property
    def message(self) -> dict[str, Any]:
        """The message of the first choice."""
        return _first(self.document, "message")

    @cached_property
    def events(self) -> tuple[dict[str, Any], ...]:
        """The JSON objects of a stream, as the WHATWG standard frames them, a last one without its blank line
        included.
        """
        return tuple(event for data in self._data() if (event := _object(data)))

    def deltas(self) -> Iterator[dict[str, Any]]:
        """What each event adds to the first choice."""
        for event in self.events:
            yield _first(event, "delta")

    @property
    def says_done(self) -> bool:
        """Whether the stream ended with ``[DONE]``."""
        return any(data == "[DONE]" for data in self._data())

    @property
    def usage(self) -> Usage | None:
        """The last complete counts, of the body or of an event."""
        found = None
        for each in [self.document, *self.events]:
            found = _usage(each.get("usage")) or found
        return found

    @property
    def finish_reasons(self) -> set[str]:
        """Why the first choice ended."""
        choices = [_choice(each) for each in [self.document, *self.events]]
        return {str(choice["finish_reason"]) for choice in choices if choice.get("finish_reason")}

    @property
    def complaint(self) -> str:
        """The error's own words in one of the shapes that servers use, or the beginning of the body."""
        document = self.document or next(iter(self.events), {})
        for text in _messages(document):
            return text[:_SHOWN_CHARS]
        return self.text.strip()[:_SHOWN_CHARS] or self.why

    @property
    def error_shape(self) -> str:
        """How the error is written; ``openai`` is what clients understand."""
        document = self.document
        match document:
            case {"error": {"message": str()}}:
                return "openai"
            case {"error": str()}:
                return "error text"
            case {"object": "error", "message": _}:
                return "flat"
            case {"detail": _}:
                return "detail"
            case {"message": str()}:
                return "message"
        if document:
            return "other JSON"
        return "text" if self.text.strip() else "empty"

    def _data(self) -> Iterator[str]:
        lines: list[str] = []
        text = self.text.replace("\r\n", "\n").replace("\r", "\n")
        for line in [*text.split("\n"), ""]:
            if not line and lines:
                yield "\n".join(lines)
                lines = []
            if line.startswith("data:"):
                lines.append(line.removeprefix("data:").removeprefix(" "))


def _object(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _choice(document: Mapping[str, Any]) -> dict[str, Any]:
    match document.get("choices"):
        case [dict() as choice, *_]:
            return choice
    return {}


def _first(document: Mapping[str, Any], name: str) -> dict[str, Any]:
    found = _choice(document).get(name)
    return found if isinstance(found, dict) else {}


def _usage(found: Any) -> Usage | None:
    match found:
        case {
            "prompt_tokens": int() | float() as sent,
            "completion_tokens": int() | float() as made,
        }:
            others = sorted(name for name in _names(found) if name not in _PLAIN)
            return Usage(_whole(sent), _whole(made), tuple(others))
    return None


_PLAIN: Final = frozenset({"prompt_tokens", "completion_tokens", "total_tokens"})


def _whole(number: float) -> int:
    """Counts are written as floats too; what is none (``Infinity`` is read by Python) is -1."""
    try:
        return int(number)
    except (ValueError, OverflowError):
        return -1


def _names(usage: Mapping[str, Any]) -> Iterator[str]:
    """The counts that are not nothing, those of details with their place."""
    for name, value in usage.items():
        if isinstance(value, dict):
            yield from (f"{name}.{inner}" for inner in _names(value))
        elif value:
            yield name


def _messages(document: Mapping[str, Any]) -> Iterator[str]:
    """Texts under the names that servers use for an error's message, outermost first."""
    for name in ("error", "message", "detail", "msg"):
        match document.get(name):
            case str() as text if text:
                yield text
            case dict() as inner:
                yield from _messages(inner)
            case [dict() as inner, *_]:
                yield from _messages(inner)
