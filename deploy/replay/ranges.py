"""Ranges of a topic as people write them, and the offsets that they come to. Pure.

A time is of when a record was appended, by the broker's clock. The syntax is that of ``rpk``: ``@-48h:-24h`` for times,
``100:200`` for offsets; what is left out before or after the colon is the log's own end. The last of a range is not in it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

__all__ = ["Bounds", "Range", "RangeError", "Stretch", "parse_range", "stretch_of"]

_AGO: Final = re.compile(r"-([0-9]{1,9})([smhd])", re.ASCII)
_UNIX_MS: Final = re.compile(r"[0-9]{12,14}", re.ASCII)
_OFFSETS: Final = re.compile(r"(?:([0-9]{1,6})/)?([0-9]{0,18}):([0-9]{0,18})", re.ASCII)
_UNIT_MS: Final = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


class RangeError(ValueError):
    """What is wrong with a range, in a sentence for whoever wrote it."""


@dataclass(frozen=True, slots=True)
class Range:
    """What is wanted of a topic: times, or offsets of all partitions or of some; all of it, where nothing is said."""

    from_ms: int | None = None
    to_ms: int | None = None
    begin: int | None = None
    end: int | None = None
    partitions: Mapping[int, tuple[int | None, int | None]] = field(default_factory=dict)
    """Partitions with offsets of their own; where there are any, the others are left out."""

    @property
    def is_of_times(self) -> bool:
        """Whether the log has to be asked for the offsets."""
        return self.from_ms is not None or self.to_ms is not None

    @property
    def is_all(self) -> bool:
        """Whether nothing is left out."""
        return self == Range()


@dataclass(frozen=True, slots=True)
class Bounds:
    """A partition as it stands: its oldest offset, its end, and the first offsets at the times of a range."""

    begin: int
    end: int
    at_from: int | None = None
    at_to: int | None = None


@dataclass(frozen=True, slots=True)
class Stretch:
    """The offsets [begin, end) of a partition that are read, and why they are fewer than were asked for."""

    partition: int
    begin: int
    end: int
    is_whole_log: bool = False
    """Whether it has every record that was ever appended."""
    notes: tuple[str, ...] = ()

    @property
    def records(self) -> int:
        """How many there are at most."""
        return self.end - self.begin


def parse_range(texts: Sequence[str], now_ms: int) -> Range:
    """The range of one or more texts; all, of none. Raises ``RangeError``."""
    if not any(text.startswith("@") for text in texts):
        return _of_offsets(texts)
    if len(texts) > 1:
        raise RangeError("a range of times is one for all partitions, so it stands alone")
    return _of_times(texts[0], now_ms)


def _of_times(text: str, now_ms: int) -> Range:
    """A time may have colons of its own: the one between two times is that which leaves a time on both sides."""
    said = text[1:]
    for at in (number for number, letter in enumerate(said) if letter == ":"):
        before, after = said[:at], said[at + 1 :]
        try:
            from_ms = _moment_ms(before, now_ms) if before else None
            to_ms = _moment_ms(after, now_ms) if after else None
        except ValueError:
            continue
        if from_ms is not None and to_ms is not None and from_ms >= to_ms:
            raise RangeError(f"{text!r} is empty: {after} is not after {before}")
        if from_ms is not None and from_ms > now_ms:
            raise RangeError(f"{text!r} begins at a time that is yet to come")
        return Range(from_ms=from_ms, to_ms=to_ms)
    raise RangeError(
        f"{text!r} is no range of times; write @-48h:-24h, @-1h: for until now, "
        "or @2026-11-25T20:00Z:2026-11-25T21:00Z"
    )


def _moment_ms(text: str, now_ms: int) -> int:
    """Raises ``ValueError``."""
    if (ago := _AGO.fullmatch(text)) is not None:
        return max(0, now_ms - int(ago[1]) * _UNIT_MS[ago[2]])
    if _UNIX_MS.fullmatch(text):
        return int(text)
    moment = datetime.fromisoformat(text)
    at_utc = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
    return round(at_utc.timestamp() * 1_000)


def _of_offsets(texts: Sequence[str]) -> Range:
    """Raises ``RangeError``."""
    named: dict[int, tuple[int | None, int | None]] = {}
    for text in texts:
        found = _OFFSETS.fullmatch(text)
        if found is None:
            raise RangeError(
                f"{text!r} is no range; write 100:200, 3/100:200 for partition 3, or @-48h:-24h"
            )
        begin, end = (int(part) if part else None for part in found.group(2, 3))
        if begin is not None and end is not None and begin >= end:
            raise RangeError(f"{text!r} is empty: {end} is not after {begin}")
        if found[1] is None:
            if len(texts) > 1:
                raise RangeError(f"{text!r} is of all partitions, so it stands alone")
            return Range(begin=begin, end=end)
        if int(found[1]) in named:
            raise RangeError(f"partition {found[1]} has two ranges; give one")
        named[int(found[1])] = (begin, end)
    return Range(partitions=named)


def stretch_of(wanted: Range, partition: int, at: Bounds) -> Stretch:
    """What the range comes to in a partition as it stands."""
    if wanted.is_of_times:
        begin = at.begin if wanted.from_ms is None else _or(at.at_from, at.end)
        end = at.end if wanted.to_ms is None else _or(at.at_to, at.end)
        return _stretch(partition, begin, max(begin, end), at, [])
    first, last = wanted.partitions.get(partition, (wanted.begin, wanted.end))
    notes: list[str] = []
    if first is not None and first < at.begin:
        notes.append(f"retention has taken offsets {first} to {at.begin - 1}")
    if first is not None and first > at.end:
        notes.append(f"it ends at {at.end}, before {first}")
    if last is not None and last > at.end:
        notes.append(f"it ends at {at.end}, so {last - at.end} offsets are still to come")
    begin = min(max(_or(first, at.begin), at.begin), at.end)
    end = min(max(_or(last, at.end), begin), at.end)
    return _stretch(partition, begin, end, at, notes)


def _stretch(partition: int, begin: int, end: int, at: Bounds, notes: list[str]) -> Stretch:
    is_whole = begin == 0 and end == at.end
    return Stretch(partition, begin, end, is_whole, tuple(notes))


def _or(value: int | None, otherwise: int) -> int:
    return otherwise if value is None else value
