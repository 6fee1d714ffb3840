"""Marks of what is processed, sets of finished offsets, and their form in commit metadata. Pure.

A finished record behind a slow one is an offset and no more; neighbours merge into runs, so that a
hundred thousand of them cost as much as one. There is at most one run more than there are unfinished
records between them.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = [
    "METADATA_BYTES_MAX",
    "Mark",
    "OffsetRuns",
    "Run",
    "decode_mark",
    "encode_mark",
    "further",
]

Run = tuple[int, int]
"""Offsets from the first number up to, not including, the second."""

METADATA_BYTES_MAX = 4_096
"""What a broker accepts as metadata of a commit by default (``offset.metadata.max.bytes``)."""

_FORM = "f2"
"""Names the form, so that another one can follow."""
_HEAD_BYTES_MAX = 32
"""The form and the time."""
_PACKED_BYTES_MAX = (METADATA_BYTES_MAX - _HEAD_BYTES_MAX) // 4 * 3
_TIME = re.compile("[0-9]{1,18}")


@dataclass(frozen=True, slots=True)
class Mark:
    """How far a partition is processed. A record that it covers is a replay and has no effect."""

    offset: int
    """Every record below is processed."""
    runs: tuple[Run, ...] = ()
    """So are these beyond it."""
    newest_ms: int = 0
    """Append time of the newest record that was delivered, which tells this log from a later one of the
    same name; 0 when nothing is known of it."""
    is_ours: bool = True
    """Whether a worker set it, and not somebody who set the group's commit."""

    @property
    def end(self) -> int:
        """The first offset that is not processed, nor are those after it."""
        return self.runs[-1][1] if self.runs else self.offset


def further(one: Mark | None, other: Mark | None) -> Mark | None:
    """The mark that says more; a group that was reset says less than before."""
    if one is None or other is None:
        return one or other
    return max(one, other, key=lambda mark: (mark.offset, sum(b - a for a, b in mark.runs)))


class OffsetRuns:
    """Offsets as maximal runs; every operation is one or two look-ups."""

    __slots__ = ("_end_of", "_start_of")

    def __init__(self) -> None:
        self._end_of: dict[int, int] = {}
        self._start_of: dict[int, int] = {}

    def add(self, start: int, end: int) -> None:
        """Add a run that overlaps none of those that are there; it may touch them."""
        start = self._start_of.pop(start, start)
        end = self._end_of.pop(end, end)
        self._end_of[start] = end
        self._start_of[end] = start

    def take_from(self, offset: int) -> int:
        """Remove the run that starts at ``offset``; where it ends, or ``offset`` when there is none."""
        end = self._end_of.pop(offset, None)
        if end is None:
            return offset
        del self._start_of[end]
        return end

    def __len__(self) -> int:
        """How many runs."""
        return len(self._end_of)

    def in_order(self) -> list[Run]:
        """The runs, the lowest first."""
        return sorted(self._end_of.items())


def encode_mark(mark: Mark) -> str:
    """The mark as metadata of a commit of its offset, with as many of the first runs as fit."""
    packed = bytearray()
    at = mark.offset
    for start, end in mark.runs:
        pair = _varint(start - at) + _varint(end - start)
        if len(packed) + len(pair) > _PACKED_BYTES_MAX:
            break
        packed += pair
        at = end
    return f"{_FORM}:{mark.newest_ms}:{base64.b64encode(packed).decode()}"


def decode_mark(offset: int, metadata: str) -> Mark | None:
    """What ``encode_mark`` was given; ``None`` for what is not of its making: somebody set the group."""
    form, _, rest = metadata.partition(":")
    newest_ms, _, packed = rest.partition(":")
    if form != _FORM or len(metadata) > METADATA_BYTES_MAX or not _TIME.fullmatch(newest_ms):
        return None
    try:
        runs = _runs(offset, _numbers(base64.b64decode(packed, validate=True)))
        return Mark(offset, tuple(runs), int(newest_ms))
    except (binascii.Error, ValueError):
        return None


def _runs(base: int, numbers: list[int]) -> Iterator[Run]:
    """Raises ``ValueError`` for numbers that are none of runs."""
    at = base
    for gap, length in zip(numbers[::2], numbers[1::2], strict=True):
        if gap < 1 or length < 1:
            raise ValueError("runs neither touch nor are empty")
        yield at + gap, at + gap + length
        at += gap + length


def _varint(number: int) -> bytes:
    """Seven bits a byte, the low ones first; the high bit says that more follow."""
    out = bytearray()
    while number > 0x7F:  # noqa: PLR2004  # seven bits
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def _numbers(packed: bytes) -> list[int]:
    numbers: list[int] = []
    number = shift = 0
    for byte in packed:
        number |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:  # noqa: PLR2004  # the high bit
            numbers.append(number)
            number = shift = 0
    return numbers
