"""Reads what a backend answered: usage, text and stream events of the OpenAI chat shape. Pure.

Unknown fields are neither read nor lost: bodies and events are relayed as the backend sent them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import msgspec

from schemas.failures import Poison
from schemas.money import TokenCounts

_EVENT_BYTES_MAX = 8 * 1024 * 1024
_TOKENS_MAX = 10**9
"""Beyond any context window; larger counts are a backend's defect and would not fit a record."""
_DONE = b"[DONE]"
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
    usage: Any = None
    error: Any = None


_BODIES = msgspec.json.Decoder(_Body)


@dataclass(frozen=True, slots=True)
class Completion:
    """What was read of a whole answer, or of a whole stream."""

    provider_id: str | None
    usage: TokenCounts | None
    """The backend's own counts; ``None`` when it sent none or impossible ones."""
    text: str
    """The output, for counting where the backend did not."""


class UpstreamGarbage(Poison):
    """The backend's answer is not of the OpenAI shape."""


def read_body(body: bytes) -> Completion:
    """A whole JSON answer. Raises ``UpstreamGarbage`` when it is none."""
    try:
        parsed = _BODIES.decode(body)
    except msgspec.DecodeError as error:
        raise UpstreamGarbage(str(error)) from error
    if parsed.error is not None:
        raise UpstreamGarbage("the backend answered 200 with an error")
    text = "".join((c.message.content or "") for c in parsed.choices if c.message is not None)
    return Completion(parsed.id, _counts(parsed.usage), text)


def _counts(sent: Any) -> TokenCounts | None:
    """The backend's counts; a completion is not lost because its counts are garbled."""
    if sent is None:
        return None
    try:
        usage = msgspec.convert(sent, _Usage)
    except msgspec.ValidationError:
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
    _texts: list[str] = field(default_factory=list)
    _rest: bytes = b""

    def feed(self, received: bytes) -> bytes:
        """Whole events to relay out of what has arrived so far, each ending in a blank line.

        Raises ``UpstreamGarbage`` when an event is not JSON or grows beyond all bounds.
        """
        pending = (self._rest + received).replace(b"\r\n", b"\n")
        *events, self._rest = pending.split(b"\n\n")
        if len(self._rest) > _EVENT_BYTES_MAX:
            raise UpstreamGarbage(f"an event of more than {_EVENT_BYTES_MAX} bytes")
        return b"".join(self._relayed(event) for event in events)

    def completion(self) -> Completion:
        """What the stream amounted to, whole or not."""
        return Completion(self.provider_id, self.usage, "".join(self._texts))

    def _relayed(self, event: bytes) -> bytes:
        payload = b"\n".join(
            line[5:].strip() for line in event.split(b"\n") if line.startswith(b"data:")
        )
        if not payload:
            return b""
        if payload == _DONE:
            self.done = True
            return b""
        try:
            parsed = _BODIES.decode(payload)
        except msgspec.DecodeError as error:
            raise UpstreamGarbage(str(error)) from error
        return self._noted(parsed, payload)

    def _noted(self, parsed: _Body, payload: bytes) -> bytes:
        if parsed.error is not None:
            self.failed = True
            return b""
        self.provider_id = self.provider_id or parsed.id
        self._texts += [c.delta.content for c in parsed.choices if c.delta and c.delta.content]
        if parsed.usage is not None:
            self.usage = _counts(parsed.usage) or self.usage
            if not parsed.choices and not self.relays_usage:
                return b""
        if not self.relays_usage and b'"usage"' in payload:
            payload = _NULL_USAGE.sub(b"", payload)
        return b"data: " + payload.replace(b"\n", b" ") + b"\n\n"
