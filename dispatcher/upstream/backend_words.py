"""Reads what a backend says of an error, in every common shape: message, code, param, type, status. Pure.

Sources: OpenAI's error object; ``{"object":"error",...}`` of vLLM and Mistral, whose message may be a value itself;
``{"detail":...}`` of FastAPI and pydantic; ``{"error":"..."}`` of Ollama and TGI; a list of one error of Gemini's
compatible endpoint; ``errors`` of Cloudflare; text and HTML of proxies. Inputs: aaif-goose/goose#11283,
apache/apisix#13565, kortix-ai/suna#4434, kortix-ai/suna#5986, lingyuins/octopus#152.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Final

from dispatcher.upstream import foreign
from dispatcher.upstream.context_overflow import CODE, is_context_overflow
from dispatcher.upstream.json_reader import value_of
from schemas.failures import Poison

_TITLE: Final = re.compile(r"<title[^>]*>([^<]{1,300})", re.IGNORECASE)
_DEPTH_MAX: Final = 4
_MESSAGES: Final = ("message", "detail", "msg", "error_message", "error_msg", "reason", "error")
_CODES: Final = ("code", "error_code")
_TYPES: Final = ("type", "error_type")
_STATUSES: Final = ("status", "status_code", "http_status", "code", "error_code")
_TEXT_BYTES_MAX: Final = 4_096


@dataclass(frozen=True, slots=True)
class BackendWords:
    """What was said; each is ``None`` where nothing was, and of bounded length."""

    message: str | None = None
    code: str | None = None
    param: str | None = None
    type: str | None = None
    status: int | None = None
    """An HTTP status of an error that stands in the answer itself."""

    @property
    def is_overflow(self) -> bool:
        """Whether the request was longer than the model's context."""
        return self.code == CODE

    @property
    def names_something(self) -> bool:
        """Whether there is anything for programs."""
        return bool(self.code or self.param or self.type)

    def without(self, hidden: Iterable[str]) -> BackendWords:
        """The same without texts that must not get out."""
        return replace(self, message=foreign.message(self.message, hidden))


NO_WORDS: Final = BackendWords()


class BackendError(Poison):
    """The backend's answer has status 200 and is an error. Says nothing of its text."""

    def __init__(self, words: BackendWords) -> None:
        super().__init__("an error with status 200")
        self.words = words


def words_of_body(body: bytes, hidden: Iterable[str] = ()) -> BackendWords:
    """What the body of a refusal says; ``hidden`` are texts that must not get out, such as keys and hosts."""
    if (value := value_of(body)) is not None:
        return words_of(value, hidden) or NO_WORDS
    text = body[:_TEXT_BYTES_MAX].decode(errors="replace").strip()
    if text.startswith("<"):
        title = _TITLE.search(text)
        text = html.unescape(title[1]) if title else ""
    elif text.startswith(("{", "[")):
        return NO_WORDS  # JSON that was cut off: half a sentence of it helps nobody.
    return _told(text, {}, hidden)


def words_of(value: Any, hidden: Iterable[str] = ()) -> BackendWords | None:
    """What an error says that came as JSON; ``None`` where the value is nothing that says something."""
    if isinstance(value, str):
        return _told(value, {}, hidden) if value.strip() else None
    if isinstance(value, list):
        return next(filter(None, (words_of(each, hidden) for each in value[:8])), None)
    if not isinstance(value, dict) or not value:
        return None
    inner = value.get("error") or value.get("errors")
    if isinstance(inner, list):
        inner = next((each for each in inner if isinstance(each, dict)), None)
    fields = {**value, **inner} if isinstance(inner, dict) else value
    return _told(_message(inner or value), fields, hidden)


def is_error(value: dict[str, Any]) -> bool:
    """Whether an object without choices is an error, though it has no field of that name."""
    if value.get("object") == "error" or value.get("type") == "error":
        return True
    texts = (value.get(name) for name in ("message", "error_msg"))
    return bool(value.get("detail") or value.get("errors")) or any(
        isinstance(t, str) and t for t in texts
    )


def _message(value: Any, depth: int = _DEPTH_MAX) -> str | None:
    """The text in whatever stands for a message; of a list of pydantic's, all of them with their places."""
    if isinstance(value, str):
        if depth and value.lstrip().startswith("{"):  # A proxy put its backend's whole answer in.
            return _message(value_of(value.encode(errors="replace")), depth - 1) or value
        return value
    if not depth:
        return None
    if isinstance(value, list):
        said = [text for each in value[:8] if (text := _message(each, depth - 1))]
        return "; ".join(said) or None
    if not isinstance(value, dict):
        return None
    text = next(filter(None, (_message(value.get(n), depth - 1) for n in _MESSAGES)), None)
    place = value.get("loc")
    if text and isinstance(place, list):
        return f"{'.'.join(map(str, place[:8]))}: {text}"
    return text


def _told(message: str | None, fields: dict[str, Any], hidden: Iterable[str]) -> BackendWords:
    said = foreign.message(message, hidden)
    code = next(filter(None, (_name(fields.get(name)) for name in _CODES)), None)
    kind = next(filter(None, (_name(fields.get(name)) for name in _TYPES)), None)
    if is_context_overflow(said, code, kind):
        code = CODE
    statuses = (_status(fields.get(name)) for name in _STATUSES)
    return BackendWords(
        said, code, _name(fields.get("param")), kind, next(filter(None, statuses), None)
    )


def _name(value: Any) -> str | None:
    """A code or a name that programs match on; numbers are statuses of HTTP, which the answer has itself."""
    if not isinstance(value, str) or value.strip().isdigit():
        return None
    return foreign.name(value)


def _status(value: Any) -> int | None:
    if isinstance(value, str) and len(value) == 3 and value.isascii() and value.isdigit():  # noqa: PLR2004  # as in HTTP
        value = int(value)
    return value if type(value) is int and 400 <= value <= 599 else None  # noqa: PLR2004  # errors of HTTP
