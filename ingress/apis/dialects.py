"""How an outcome reads on each surface: the body of a success, the events of a stream.

The workers speak chat completions; the OpenAI surface relays them verbatim, the native one
translates.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Protocol

import msgspec

from ingress.http.answer_headers import cost_usd
from ingress.http.refusals import Refusal, Surface, error_object
from schemas.errors import ErrorCode
from schemas.frames import Terminal, Usage

PING: Final = b": ping\n\n"
DONE: Final = b"data: [DONE]\n\n"


class Dialect(Protocol):
    """One surface, for one request."""

    @property
    def surface(self) -> Surface:
        """How errors are written."""

    def body(self, terminal: Terminal) -> bytes | Refusal:
        """The body of a success."""

    def events(self, chunks: bytes) -> bytes:
        """What becomes of whole server-sent events."""

    def last_events(self, terminal: Terminal) -> bytes:
        """The end of a successful stream."""


@dataclass(frozen=True, slots=True)
class ChatDialect:
    """``/v1/chat/completions``."""

    surface: Surface = "openai"

    def body(self, terminal: Terminal) -> bytes | Refusal:
        """The backend's body, verbatim."""
        return terminal.body

    def events(self, chunks: bytes) -> bytes:
        """The backend's events, verbatim."""
        return chunks

    def last_events(self, terminal: Terminal) -> bytes:
        """The cost as a comment, which clients skip, and the end mark."""
        cost = cost_usd(terminal.usage)
        return DONE if cost is None else b": x-tallygate-cost-usd %s\n\n" % cost.encode() + DONE


class _Delta(msgspec.Struct, frozen=True):
    content: str | None = None


class _Choice(msgspec.Struct, frozen=True):
    message: _Delta = _Delta()
    delta: _Delta = _Delta()


class _Completion(msgspec.Struct, frozen=True):
    choices: tuple[_Choice, ...] = ()


_COMPLETION: Final = msgspec.json.Decoder(_Completion)


@dataclass(frozen=True, slots=True)
class InferenceDialect:
    """``/v1/inference``, whose client knows the request by an id of its own."""

    client_request_id: str
    model: str
    surface: Surface = "native"

    def body(self, terminal: Terminal) -> bytes | Refusal:
        """The first choice's text, with usage; 502 when the backend's body is no completion."""
        try:
            output = _COMPLETION.decode(terminal.body).choices[0].message.content
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, IndexError):
            return Refusal(ErrorCode.UPSTREAM_ERROR, "The backend's answer is not a completion.")
        return msgspec.json.encode({**self._summary(terminal), "output": output or ""})

    def events(self, chunks: bytes) -> bytes:
        """One event for each piece of text."""
        return b"".join(
            _event({"request_id": self.client_request_id, "delta": text})
            for event in chunks.split(b"\n\n")
            if (text := _text_of(event))
        )

    def last_events(self, terminal: Terminal) -> bytes:
        """The summary, and the end mark."""
        return _event(self._summary(terminal)) + DONE

    def _summary(self, terminal: Terminal) -> dict[str, Any]:
        return {
            "request_id": self.client_request_id,
            "model": self.model,
            "usage": usage_object(terminal.usage),
            "backend": terminal.backend,
            "latency_ms": terminal.latency_ms,
        }


def error_event(refusal: Refusal) -> bytes:
    """The event that ends a stream whose headers are out; no end mark follows it."""
    return _event({"error": error_object(refusal)})


def _event(fields: dict[str, Any]) -> bytes:
    return b"data: " + msgspec.json.encode(fields) + b"\n\n"


def _text_of(event: bytes) -> str | None:
    """The first choice's text in an event; ``None`` for comments, usage and foreign events."""
    if not event.startswith(b"data:"):
        return None
    try:
        choices = _COMPLETION.decode(event[5:].strip()).choices
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return choices[0].delta.content if choices else None


def usage_object(usage: Usage | None) -> dict[str, int] | None:
    """Tokens under OpenAI's names."""
    if usage is None:
        return None
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
    }
