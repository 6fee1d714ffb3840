"""Decides which frames of a request are relayed: one fence, in order, each once.

A newer fence replaces an older one until content was relayed; after that only its terminal error
is taken, as the end of the broken stream. Fence 0 is the limiter's. Pure.
"""

from __future__ import annotations

from enum import Enum
from typing import Final

import msgspec

from schemas.errors import ErrorCode
from schemas.frames import Chunk, Frame, Terminal

_NO_FENCE: Final = -1


class Verdict(Enum):
    """What to do with a frame."""

    RELAY = "relay"
    DROP = "drop"
    """Repeated, stale, or of an attempt that is not relayed."""
    GAP = "gap"
    """Frames before it are missing."""
    BREAK = "break"
    """The stream cannot be continued: end it with ``broken_off``."""


class Position(msgspec.Struct, frozen=True):
    """How far a request's frames were taken."""

    fence: int = _NO_FENCE
    seq: int = 0
    has_content: bool = False
    ended: bool = False

    @property
    def cursor(self) -> str:
        """Id of the last frame taken, in the request's stream."""
        return f"{max(self.fence, 0)}-{self.seq}"


def sequence(position: Position, frame: Frame) -> tuple[Verdict, Position]:
    """The verdict on a frame, and the position after it."""
    if position.ended or frame.fence < position.fence:
        return Verdict.DROP, position
    if frame.fence > position.fence:
        if position.has_content:
            return _after_content(position, frame)
        position = Position(frame.fence)
    if frame.seq <= position.seq:
        return Verdict.DROP, position
    if frame.seq > position.seq + 1:
        return Verdict.GAP, position
    content = frame.content
    has_content = position.has_content or isinstance(content, Chunk)
    return Verdict.RELAY, Position(
        frame.fence, frame.seq, has_content, isinstance(content, Terminal)
    )


def _after_content(position: Position, frame: Frame) -> tuple[Verdict, Position]:
    """A newer attempt must not continue what an older one began; its error may end it."""
    if not isinstance(frame.content, Terminal):
        return Verdict.DROP, position
    verdict = Verdict.BREAK if frame.content.error_code is None else Verdict.RELAY
    return verdict, msgspec.structs.replace(position, ended=True)


def broken_off() -> Terminal:
    """The end of a stream whose continuation is lost."""
    return Terminal(
        http_status=502,
        error_code=ErrorCode.UPSTREAM_INTERRUPTED,
        error_message="The answer broke off; the request was billed for what it used.",
    )
