"""Reads the stream of a chat completion, or of a text completion, while it is relayed: usage, text, its end, or what went wrong. Pure.

What is good leaves first, whatever follows it in the same read. The stream is whole once it says ``[DONE]``, or
ends after each of its choices has said why it ends (router-for-me/CLIProxyAPI#5028, openai/openai-node#2725).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final, Literal

from dispatcher.operations.binding import Answer
from dispatcher.operations.completion import (
    COMPLETIONS,
    Choice,
    Completion,
    error_in,
    heard,
    loosely,
    read_completion,
    used_in,
)
from dispatcher.operations.openai_json import is_there
from dispatcher.operations.other_form import DONE, chunks_of, event_of
from dispatcher.operations.usage.reading import believed
from dispatcher.upstream import foreign
from dispatcher.upstream.backend_words import (
    NO_WORDS,
    BackendError,
    BackendWords,
    words_of_body,
)
from dispatcher.upstream.event_splitter import (
    BODY_BYTES_MAX,
    EventSplitter,
    UpstreamGarbage,
    data_of,
)
from dispatcher.upstream.json_reader import read_json
from dispatcher.upstream.tally import Tally
from schemas.pricing.counts import TokenCounts

_EVENT_OBJECTS_MAX: Final = 100_000
"""More would hold the process up while they are made."""
_BLANK_BYTES_MAX: Final = 4_096
_BLANKS: Final = b"\xef\xbb\xbf \t\r\n"
_SIGNS_OF_LIFE: Final = frozenset({b"null", b"ping", b"heartbeat", b"keepalive", b"keep-alive"})
"""Data that no chunk can be lost in."""
_NULL_USAGE: Final = re.compile(rb',\s*"usage"\s*:\s*null')
"""Cannot match inside a JSON string, where quotes are escaped."""


@dataclass(slots=True)
class ChatStream:
    """Splits a stream into whole events, notes what they say, and hands out what to relay.

    ``relays_usage`` is whether the client asked for the usage chunk that we always ask for.
    """

    relays_usage: bool
    provider_id: str | None = None
    usage: TokenCounts | None = None
    tier: str | None = None
    """The service tier that it told."""
    done: bool = False
    """The backend said that the stream is complete."""
    error: BackendWords | None = None
    """What the backend said went wrong; nothing after it counts."""
    garbage: UpstreamGarbage | None = None
    """What cannot be read; nothing after it counts."""
    said: BackendWords = NO_WORDS
    """What stood in an event that is no JSON object: most likely why the stream breaks off."""
    output: Tally = field(default_factory=Tally)
    splitter: EventSplitter = field(default_factory=EventSplitter)
    _form: Literal["unknown", "events", "whole"] = "unknown"
    _whole: bytearray = field(default_factory=bytearray)
    """What has come of an answer that is no stream, or of the blanks before one that is."""
    _seen: set[int] = field(default_factory=set)
    _ended: set[int] = field(default_factory=set)

    @property
    def has_ended(self) -> bool:
        """Whether all choices that were begun have said why they end."""
        return bool(self._ended) and self._seen <= self._ended

    def _has_failed(self) -> bool:
        return self.error is not None or self.garbage is not None

    def feed(self, received: bytes) -> bytes:
        """Whole events to relay out of what has arrived so far, each ending in a blank line. Never raises."""
        if self._has_failed():
            return b""
        relayed: list[bytes] = []
        try:
            if self._form != "events":
                received = self._recognised(received)
            for event in self.splitter.split(received) if received else ():
                relayed.append(self._relayed(event))
                if self._has_failed():
                    break
        except UpstreamGarbage as garbage:
            self.garbage = garbage
        return b"".join(relayed)

    def finish(self) -> bytes:
        """What is left to relay when nothing more comes: an event without its blank line, an answer that is no
        stream. Never raises."""
        if self._has_failed():
            return b""
        try:
            if self._form == "whole":
                return self._chunks(bytes(self._whole))
            return self._relayed(event) if (event := self.splitter.last()) else b""
        except BackendError as error:
            self.error = error.words
        except UpstreamGarbage as garbage:
            # An event may be cut off; whether something is missing then is for ``has_ended`` to say.
            self.garbage = garbage if self._form == "whole" else None
        return b""

    def answer(self) -> Answer:
        """What the stream amounted to, whole or not."""
        usage = believed(self.usage, has_text=self.output.has_text)
        return Answer(self.provider_id, usage, self.output, self.tier)

    def _recognised(self, received: bytes) -> bytes:
        """What is to be split into events; nothing as long as it may be, or is, an answer that is no stream."""
        self._whole += received
        if len(self._whole) > BODY_BYTES_MAX:
            raise UpstreamGarbage(f"a body of more than {BODY_BYTES_MAX} bytes")
        if self._form == "unknown":
            begun = self._whole[:_BLANK_BYTES_MAX].lstrip(_BLANKS)
            if not begun and len(self._whole) < _BLANK_BYTES_MAX:
                return b""
            self._form = "whole" if begun.startswith((b"{", b"[")) else "events"
        if self._form == "whole":
            return b""
        received, self._whole = bytes(self._whole), bytearray()
        return received

    def _chunks(self, body: bytes) -> bytes:
        answer, body = read_completion(body)
        self.provider_id, self.usage, self.output = answer.provider_id, answer.usage, answer.output
        self.tier = answer.service_tier
        self.done = True
        return chunks_of(body, with_usage=self.relays_usage)

    def _relayed(self, event: bytes) -> bytes:
        payload, name = data_of(event)
        if not payload:
            self.splitter.nothing_said()
            return b""
        if payload == DONE:
            self.done = True
            return b""
        if payload[:1] != b"{" or name == b"error":
            self._odd(payload, is_error=name == b"error")
            return b""
        return self._noted(*read_json(COMPLETIONS, payload, _EVENT_OBJECTS_MAX, loosely))

    def _odd(self, payload: bytes, *, is_error: bool) -> None:
        """An event that is no chunk: an error by its name or as a list, a sign of life, or nothing we can read."""
        words = words_of_body(payload)
        if is_error or payload.startswith(b"["):
            self.error = words
        elif payload.lower() in _SIGNS_OF_LIFE:
            self.splitter.nothing_said()
        else:
            self.said = words
            raise UpstreamGarbage("an event that is no JSON object")

    def _noted(self, read: Completion, payload: bytes) -> bytes:
        choices = read.choices
        if not choices or is_there(read.error):
            self.error = error_in(read, payload)
            if self.error is not None:
                return b""
        if self.provider_id is None:
            self.provider_id = foreign.provider_id(read.id)
        may_tell = self._hear(choices)
        has_usage = is_there(read.usage)
        if has_usage or may_tell:
            used = used_in(read, payload)
            counts = believed(used.counts, has_text=self.output.has_text)
            self.usage, self.tier = counts or self.usage, used.tier or self.tier
        if not choices:
            if has_usage and not self.relays_usage:
                return b""
            if not has_usage:
                self.splitter.nothing_said()
        if not self.relays_usage and b'"usage"' in payload:
            payload = _NULL_USAGE.sub(b"", payload)
        return event_of(payload)

    def _hear(self, choices: list[Choice]) -> bool:
        """Note what was said, and by which choice; whether what was used may stand in the event."""
        ends = not choices
        for choice in choices:
            heard(choice.delta, self.output)
            if choice.text is not None:
                heard(choice.text, self.output)
            index = choice.index if type(choice.index) is int else 0
            self._seen.add(index)
            if choice.finish_reason:
                self._ended.add(index)
                ends = True
        return ends
