"""What the dispatcher does for one operation: encode its call, read its answer, count its input. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol

import msgspec

from dispatcher.operations.dialect import Dialect
from dispatcher.upstream.backend_words import BackendWords
from dispatcher.upstream.event_splitter import UpstreamGarbage
from dispatcher.upstream.tally import Tally
from dispatcher.work import Choice
from schemas.entities import Backend
from schemas.failures import Poison
from schemas.pricing.counts import TokenCounts


class Unaskable(Poison):
    """A request that the protocol of the chosen backend cannot ask; one of another protocol may take it.

    Says which field, and nothing that stands in it.
    """

    def __init__(self, param: str, what: str) -> None:
        super().__init__(f"{param} {what}.")
        self.param = param


class Answer(msgspec.Struct, frozen=True):
    """What was read of a whole answer, or of a stream so far."""

    provider_id: str | None
    usage: TokenCounts | None
    """The backend's own counts; ``None`` when it sent none or impossible ones."""
    output: Tally
    """The output, for counting where the backend did not."""
    service_tier: str | None = None
    """The service tier that the answer told, as it was sent."""
    input_told: TokenCounts | None = None
    """The backend's own counts of the input where it told those first and then nothing more, as of a stream that broke off."""


class StreamReader(Protocol):
    """A stream on its way: takes what arrives, says what to relay."""

    done: bool
    """The backend said that the stream is complete."""
    error: BackendWords | None
    """What the backend said went wrong."""
    garbage: UpstreamGarbage | None
    """What cannot be read."""
    said: BackendWords
    """What it said beside its answer; it tells something when the stream breaks off."""
    usage: TokenCounts | None
    output: Tally

    @property
    def has_ended(self) -> bool:
        """Whether it has said why it ends, so that nothing is missing if nothing more comes."""

    def feed(self, received: bytes) -> bytes:
        """Whole events to relay out of what has arrived so far. Never raises."""

    def finish(self) -> bytes:
        """What is left to relay when nothing more comes. Never raises."""

    def answer(self) -> Answer:
        """What the stream amounted to, whole or not."""


class Binding(NamedTuple):
    """An operation, as backends are asked for it."""

    encode: Callable[[bytes, Choice, Dialect], bytes]
    """The body for the chosen backend in its dialect, of the one in the log. Raises ``Unaskable`` where there is none."""
    read: Callable[[bytes], tuple[Answer, bytes]]
    """A whole answer, and the body to relay. Raises ``UpstreamGarbage`` when it is none,
    ``BackendError`` when it is an error."""
    count: Callable[[bytes], int]
    """Tokens of the input in a body, where the backend counts none; raises for what it cannot read."""
    stream: Callable[[bool], StreamReader] | None = None
    """A reader of its streams, told whether the client asked for usage; ``None`` where it makes none."""
    headers: Callable[[bytes, Backend], Mapping[str, str]] | None = None
    """What a body of the log asks for in headers of the call; ``None`` where that is nothing."""


def nothing_read() -> Answer:
    """Of an answer that did not come."""
    return Answer(None, None, Tally())
