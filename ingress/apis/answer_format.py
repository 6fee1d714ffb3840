"""How an outcome reads on a surface: the body of a success, the events of a stream. Pure.

Backends speak chat completions and the like; the OpenAI surface relays them verbatim, others translate.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Protocol

import msgspec

from ingress.http.answer_headers import cost_usd
from ingress.http.refusals import Refusal, error_object
from schemas.frames import Terminal, Usage

PING: Final = b": ping\n\n"
DONE: Final = b"data: [DONE]\n\n"


class AnswerFormat(Protocol):
    """The form of one answer."""

    def body(self, terminal: Terminal) -> bytes | Refusal:
        """The body of a success."""

    def events(self, chunks: bytes) -> bytes:
        """What becomes of whole server-sent events."""

    def last_events(self, terminal: Terminal) -> bytes:
        """The end of a successful stream."""


@dataclass(frozen=True, slots=True)
class Relayed:
    """The backend's own answer, verbatim."""

    def body(self, terminal: Terminal) -> bytes | Refusal:
        """The backend's body."""
        return terminal.body

    def events(self, chunks: bytes) -> bytes:
        """The backend's events."""
        return chunks

    def last_events(self, terminal: Terminal) -> bytes:
        """The cost as a comment, which clients skip, and the end mark."""
        cost = cost_usd(terminal.usage)
        return DONE if cost is None else b": x-tallygate-cost-usd %s\n\n" % cost.encode() + DONE


RELAYED: Final = Relayed()


def error_event(refusal: Refusal) -> bytes:
    """The event that ends a stream whose headers are out; no end mark follows it."""
    return data_event({"error": error_object(refusal)})


def data_event(fields: dict[str, Any]) -> bytes:
    """A server-sent event of one JSON object."""
    return b"data: " + msgspec.json.encode(fields) + b"\n\n"


def usage_object(usage: Usage | None) -> dict[str, int] | None:
    """Tokens under OpenAI's names."""
    if usage is None:
        return None
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
    }
