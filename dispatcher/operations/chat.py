"""Chat completions: reads their usage, text and stream events, and counts what their requests tell a model. Pure.

Unknown fields are neither read nor lost: bodies and events are relayed as the backend sent them, with
U+FFFD in place of bytes that are no UTF-8.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

import msgspec

from dispatcher.operations import openai_json
from dispatcher.operations.binding import Answer, Binding
from dispatcher.operations.openai_json import ABSENT, counts, is_there, read_json
from dispatcher.operations.spoken import told
from dispatcher.upstream import foreign
from dispatcher.upstream.event_splitter import EventSplitter, UpstreamGarbage
from dispatcher.upstream.tally import Tally
from dispatcher.upstream.tokenizer import count_text
from schemas.pricing.counts import TokenCounts

_BODY_OBJECTS_MAX: Final = 1_000_000
_EVENT_OBJECTS_MAX: Final = 100_000
"""More would hold the process up while they are made."""
_DONE = b"[DONE]"
_NULL_USAGE = re.compile(rb',\s*"usage"\s*:\s*null')
"""Cannot match inside a JSON string, where quotes are escaped."""


class _Text(msgspec.Struct, frozen=True):
    content: str | None = None


class _Choice(msgspec.Struct, frozen=True):
    message: _Text | None = None
    delta: _Text | None = None


class _Body(msgspec.Struct, frozen=True):
    id: str | None = None
    choices: list[_Choice] = []
    usage: msgspec.Raw = ABSENT
    error: msgspec.Raw = ABSENT
    """Both raw: whatever they hold, nothing is built from it before its size is known."""


_BODIES: Final = msgspec.json.Decoder(_Body)


def read_body(body: bytes) -> tuple[Answer, bytes]:
    """A whole JSON answer, and the body to relay. Raises ``UpstreamGarbage`` when it is none."""
    parsed, body = read_json(_BODIES, body, _BODY_OBJECTS_MAX)
    if is_there(parsed.error):
        raise UpstreamGarbage("an error with status 200")
    output = Tally()
    for choice in parsed.choices:
        if choice.message is not None and choice.message.content:
            output.add(choice.message.content)
    return Answer(foreign.provider_id(parsed.id), counts(parsed.usage), output), body


def count_input(payload: bytes) -> int:
    """Tokens of all that a request body tells a model: messages, tools, the form of the answer."""
    return count_text("\n".join(told(msgspec.json.decode(payload))))


@dataclass(slots=True)
class ChatStream:
    """Splits a stream into whole events, notes usage, and says what to relay.

    ``relays_usage`` is whether the client asked for the usage chunk that we always ask for.
    """

    relays_usage: bool
    provider_id: str | None = None
    usage: TokenCounts | None = None
    done: bool = False
    """The backend said that the stream is complete."""
    failed: bool = False
    """The backend sent an error event."""
    output: Tally = field(default_factory=Tally)
    splitter: EventSplitter = field(default_factory=EventSplitter)

    def feed(self, received: bytes) -> bytes:
        """Whole events to relay out of what has arrived so far, each ending in a blank line.

        Raises ``UpstreamGarbage`` when an event is not JSON or anything grows beyond its bound.
        """
        events = self.splitter.split(received)
        return b"".join([self._relayed(event) for event in events]) if events else b""

    def answer(self) -> Answer:
        """What the stream amounted to, whole or not."""
        return Answer(self.provider_id, self.usage, self.output)

    def _relayed(self, event: bytes) -> bytes:
        payload = b"\n".join(
            [line[5:].strip() for line in event.split(b"\n") if line.startswith(b"data:")]
        )
        if not payload:
            self.splitter.nothing_said()
            return b""
        if payload == _DONE:
            self.done = True
            return b""
        return self._noted(*read_json(_BODIES, payload, _EVENT_OBJECTS_MAX))

    def _noted(self, parsed: _Body, payload: bytes) -> bytes:
        if is_there(parsed.error):
            self.failed = True
            return b""
        if self.provider_id is None:
            self.provider_id = foreign.provider_id(parsed.id)
        for choice in parsed.choices:
            if choice.delta is not None and choice.delta.content:
                self.output.add(choice.delta.content)
        if is_there(parsed.usage):
            self.usage = counts(parsed.usage) or self.usage
            if not parsed.choices and not self.relays_usage:
                return b""
        elif not parsed.choices:
            self.splitter.nothing_said()
        if not self.relays_usage and b'"usage"' in payload:
            payload = _NULL_USAGE.sub(b"", payload)
        if b"\r" in payload:
            payload = payload.replace(b"\r", b" ")
        return b"data: " + payload.replace(b"\n", b" ") + b"\n\n"


BINDING: Final = Binding(openai_json.encode, read_body, count_input, ChatStream)
