"""Marks that a rebuild restores once the shard is open, and the filter of the requests that wait for theirs. Pure.

A mark is a command of its own in the store, and there are as many as outcomes: written before the opening they took
longer than all else. Whoever was never in the log needs none, and is decided at once; who may have been there
waits, told by a Bloom filter: two bits for each request, of so many that one in sixty waits in vain.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from accounting.rebuild.chunks import chunks
from accounting.rebuild.fold import Mark
from schemas.ledger.rebuild_calls import encoded_marks

__all__ = ["AwaitedMarks"]

_MARKS_PER_CALL: Final = 250
"""The store, which decides for clients meanwhile, is busy with them for two milliseconds."""
_BITS_PER_REQUEST: Final = 16
_POSITION_BITS: Final = 24
"""Six hexadecimal digits tell a bit."""
_BYTE_BITS: Final = 8
_FIRST: Final = 0x80


@dataclass(slots=True)
class AwaitedMarks:
    """Marks of one shard, as they are sent."""

    pieces: list[bytes] = field(default_factory=list)
    """In the order of the log, in which marks are forgotten."""
    _ids: array[int] = field(default_factory=lambda: array("Q"))
    """The last twelve digits of each request's id."""

    def note(self, marks: Sequence[Mark]) -> None:
        """Take some more."""
        self.pieces += map(encoded_marks, chunks(marks, _MARKS_PER_CALL))
        for mark in marks:
            with suppress(ValueError):  # The ledger lets every id wait that is none of ours.
                self._ids.append(int(mark.req[-12:], 16))

    def filter(self) -> bytes:
        """The bits of all requests, as `is_awaited` in attempts.lua reads them; empty without any mark."""
        if not self.pieces:
            return b""
        size = 1 << min(_POSITION_BITS, (len(self._ids) * _BITS_PER_REQUEST).bit_length())
        bits = bytearray(max(1, size // _BYTE_BITS))
        at = len(bits) * _BYTE_BITS - 1
        for number in self._ids:
            for place in (number >> _POSITION_BITS & at, number & at):
                bits[place >> 3] |= _FIRST >> (place & 7)
        return bytes(bits)
