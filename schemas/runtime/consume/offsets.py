"""Sets of finished offsets, and their form in commit metadata. Pure.

A finished record behind a slow one is an offset and no more; neighbours merge into runs, so that a
hundred thousand of them cost as much as one. There is at most one run more than there are unfinished
records between them.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable

__all__ = ["METADATA_BYTES_MAX", "OffsetRuns", "Run", "decode_runs", "encode_runs"]

Run = tuple[int, int]
"""Offsets from the first number up to, not including, the second."""

METADATA_BYTES_MAX = 4_096
"""What a broker accepts as metadata of a commit by default (``offset.metadata.max.bytes``)."""

_FORM = "f1:"
"""Names the form, so that another one can follow."""
_PACKED_BYTES_MAX = (METADATA_BYTES_MAX - len(_FORM)) // 4 * 3


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


def encode_runs(base: int, runs: Iterable[Run]) -> str:
    """The runs above ``base``, in order, as commit metadata: as many of the first as fit; "" for none."""
    packed = bytearray()
    at = base
    for start, end in runs:
        pair = _varint(start - at) + _varint(end - start)
        if len(packed) + len(pair) > _PACKED_BYTES_MAX:
            break
        packed += pair
        at = end
    return _FORM + base64.b64encode(packed).decode() if packed else ""


def decode_runs(base: int, metadata: str) -> list[Run]:
    """What ``encode_runs`` was given. What is not of its making is nothing remembered: []."""
    if not metadata.startswith(_FORM) or len(metadata) > METADATA_BYTES_MAX:
        return []
    try:
        numbers = _numbers(base64.b64decode(metadata[len(_FORM) :], validate=True))
    except (binascii.Error, ValueError):
        return []
    runs: list[Run] = []
    at = base
    for gap, length in zip(numbers[::2], numbers[1::2], strict=False):
        if gap < 1 or length < 1:
            return []
        runs.append((at + gap, at + gap + length))
        at += gap + length
    return runs


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
