"""Reads what a backend answered: usage, text and stream events of the OpenAI chat shape. Pure.

Unknown fields are neither read nor lost: bodies and events are relayed as the backend sent them, with
U+FFFD in place of bytes that are no UTF-8. Every way in which an answer can be unreadable is one
exception, ``UpstreamGarbage``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

import msgspec

from dispatcher.upstream import foreign
from dispatcher.upstream.event_splitter import EventSplitter, UpstreamGarbage
from dispatcher.upstream.tally import Tally
from schemas.money import TokenCounts

_TOKENS_MAX: Final = 10**9
"""Beyond any context window; larger counts are a backend's defect and would not fit a record."""
_USAGE_BYTES_MAX: Final = 16 * 1024
_BODY_OBJECTS_MAX: Final = 1_000_000
_EVENT_OBJECTS_MAX: Final = 100_000
"""More would hold the process up while they are made."""
_DONE = b"[DONE]"
_NULL = memoryview(b"null")
_ABSENT = msgspec.Raw(_NULL)
_NULL_USAGE = re.compile(rb',\s*"usage"\s*:\s*null')
"""Cannot match inside a JSON string, where quotes are escaped."""


class _PromptDetails(msgspec.Struct, frozen=True):
    cached_tokens: int | None = None


class _CompletionDetails(msgspec.Struct, frozen=True):
    reasoning_tokens: int | None = None


class _Usage(msgspec.Struct, frozen=True):
    prompt_tokens: int
    completion_tokens: int = 0
    prompt_tokens_details: _PromptDetails | None = None
    completion_tokens_details: _CompletionDetails | None = None


class _Text(msgspec.Struct, frozen=True):
    content: str | None = None


class _Choice(msgspec.Struct, frozen=True):
    message: _Text | None = None
    delta: _Text | None = None


class _Body(msgspec.Struct, frozen=True):
    id: str | None = None
    choices: list[_Choice] = []
    usage: msgspec.Raw = _ABSENT
    error: msgspec.Raw = _ABSENT
    """Both raw: whatever they hold, nothing is built from it before its size is known."""


_BODIES = msgspec.json.Decoder(_Body)
_USAGES = msgspec.json.Decoder(_Usage)


@dataclass(frozen=True, slots=True)
class Completion:
    """What was read of a whole answer, or of a stream so far."""

    provider_id: str | None
    usage: TokenCounts | None
    """The backend's own counts; ``None`` when it sent none or impossible ones."""
    output: Tally
    """The output, for counting where the backend did not."""


def read_body(body: bytes) -> tuple[Completion, bytes]:
    """A whole JSON answer, and the body to relay. Raises ``UpstreamGarbage`` when it is none."""
    parsed, body = _read(body, _BODY_OBJECTS_MAX)
    if _is_there(parsed.error):
        raise UpstreamGarbage("an error with status 200")
    output = Tally()
    for choice in parsed.choices:
        if choice.message is not None and choice.message.content:
            output.add(choice.message.content)
    return Completion(foreign.provider_id(parsed.id), _counts(parsed.usage), output), body


def _read(sent: bytes, objects_max: int) -> tuple[_Body, bytes]:
    """The JSON object, and its bytes as valid UTF-8."""
    if len(sent) > objects_max and sent.count(b"{") > objects_max:
        raise UpstreamGarbage(f"more than {objects_max} objects")
    if not sent.isascii():
        sent = _as_utf8(sent)
    try:
        return _BODIES.decode(sent), sent
    except (ValueError, RecursionError) as error:
        # Of msgspec, of UTF-8, of the stack: their texts may quote the answer, their kinds do not.
        raise UpstreamGarbage(f"no JSON of this shape ({type(error).__name__})") from error


def _as_utf8(sent: bytes) -> bytes:
    """What is only relayed must not fail a call: an odd byte becomes U+FFFD."""
    try:
        sent.decode()
    except UnicodeDecodeError:
        return sent.decode(errors="replace").encode()
    return sent


def _is_there(raw: msgspec.Raw) -> bool:
    return raw is not _ABSENT and memoryview(raw) != _NULL


def _counts(sent: msgspec.Raw) -> TokenCounts | None:
    """The backend's counts; a completion is not lost because its counts are garbled."""
    if not _is_there(sent) or memoryview(sent).nbytes > _USAGE_BYTES_MAX:
        return None
    try:
        usage = _USAGES.decode(sent)
    except (ValueError, RecursionError):
        return None
    cached = usage.prompt_tokens_details and usage.prompt_tokens_details.cached_tokens
    reasoning = usage.completion_tokens_details and usage.completion_tokens_details.reasoning_tokens
    counts = TokenCounts(usage.prompt_tokens, usage.completion_tokens, cached or 0, reasoning or 0)
    negative = min(counts.output_tokens, counts.cached_tokens, counts.reasoning_tokens) < 0
    too_many = max(counts.input_tokens, counts.output_tokens, counts.reasoning_tokens) > _TOKENS_MAX
    return None if negative or too_many or counts.cached_tokens > counts.input_tokens else counts


@dataclass(slots=True)
class StreamReader:
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

    def completion(self) -> Completion:
        """What the stream amounted to, whole or not."""
        return Completion(self.provider_id, self.usage, self.output)

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
        return self._noted(*_read(payload, _EVENT_OBJECTS_MAX))

    def _noted(self, parsed: _Body, payload: bytes) -> bytes:
        if _is_there(parsed.error):
            self.failed = True
            return b""
        if self.provider_id is None:
            self.provider_id = foreign.provider_id(parsed.id)
        for choice in parsed.choices:
            if choice.delta is not None and choice.delta.content:
                self.output.add(choice.delta.content)
        if _is_there(parsed.usage):
            self.usage = _counts(parsed.usage) or self.usage
            if not parsed.choices and not self.relays_usage:
                return b""
        elif not parsed.choices:
            self.splitter.nothing_said()
        if not self.relays_usage and b'"usage"' in payload:
            payload = _NULL_USAGE.sub(b"", payload)
        if b"\r" in payload:
            payload = payload.replace(b"\r", b" ")
        return b"data: " + payload.replace(b"\n", b" ") + b"\n\n"
