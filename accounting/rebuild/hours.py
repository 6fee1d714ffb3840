"""Usage hours: what the outcomes that a fold took add to them. Pure.

Nobody's money waits for them, so they are made when the shard is open again: of the same stretch of the log, and of
what the fold found to be the first of its request.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, lru_cache
from types import SimpleNamespace
from typing import Any, Final, NamedTuple

from accounting.rebuild.fold import Start, TableName
from accounting.rebuild.rows import attempts_in
from schemas.codec import newest_of
from schemas.layouts import Layout, layout_of, number_in, text_in
from schemas.times import HOUR_MS
from schemas.usage import COUNTED, MEASURES, UsageRow, amounts_of, cell, hour_of

__all__ = ["Hours", "Line", "lines_of"]

_READ: Final = ("attempt", "cost_nano_usd", *COUNTED)
"""Of an attempt what it counts as."""
_WHO: Final = ("key_id", "user", "model")
_WANTED: Final = {
    **dict.fromkeys(("org", *_WHO), ()),
    "attempts": ("backend", "finished_at_ms", *_READ),
    "bookings": ("key", "amount"),  # Not read, but there may be many of them.
}
_KEPT: Final = 16_384
_NO_BITS: Final = b"\x80"
"""A byte of a number that adds nothing to it, and is not its last."""

_text = lru_cache(_KEPT)(text_in)
_number = lru_cache(_KEPT)(number_in)


class Line(NamedTuple):
    """What an attempt adds to an hour of an organization."""

    org: str
    hour: str
    row: str
    cells: Mapping[str, int]
    """What is added to each."""


@dataclass(slots=True)
class Hours:
    """What the outcomes that were read add to the snapshots of usage hours."""

    start: Start
    """Up to where each hour stands."""
    copies: Collection[int] = ()
    """Offsets of outcomes that do not count."""
    cells: dict[TableName, dict[str, int]] = field(default_factory=lambda: defaultdict(dict))
    """By hour, what is to be added to its cells."""
    changed: dict[TableName, int] = field(default_factory=dict)
    """Hours that stand no more as their snapshot says, and the offset of the last change."""

    def take(self, value: bytes | None, offset: int) -> None:
        """Take the next outcome. Raises ``MalformedRecord`` and ``UnknownSchema``."""
        if offset not in self.copies:
            self.add(lines_of(value), offset)

    def add(self, lines: Iterable[Line], offset: int) -> None:
        """Add what an outcome that counts says to the hours that do not contain it."""
        for org, hour, row, cells in lines:
            table = org, hour
            if offset > self.start.stands_for(table, row):
                self.changed[table] = offset
                added = self.cells[table]
                for name, amount in cells.items():
                    added[name] = added.get(name, 0) + amount


def lines_of(value: bytes | None) -> list[Line]:
    """What an outcome adds. Raises ``MalformedRecord`` and ``UnknownSchema``."""
    found = _found(value)
    return found if found is not None else list(_decoded(value))


def _found(value: bytes | None) -> list[Line] | None:
    begin, layout = _layout()
    if value is None or not value.startswith(begin):
        return None
    found = layout.record.fullmatch(value, len(begin))
    if found is None or layout.items("bookings", found["bookings"]) is None:
        return None
    attempts, names = (
        layout.items("attempts", found["attempts"]),
        layout.lists["attempts"].groupindex,
    )
    if attempts is None:
        return None
    return [_line(found, dict(zip(names, attempt, strict=True))) for attempt in attempts]


def _line(found: re.Match[bytes], attempt: dict[str, bytes]) -> Line:
    row = _row(*found.group(*_WHO), attempt.pop("backend"))
    hour = _hour_of_rest(attempt.pop("finished_at_ms")[1:])
    counted = {name: _number(it) if it else None for name, it in attempt.items()}
    cells = _cells(row, amounts_of(SimpleNamespace(**counted), 0))
    return Line(_text(found["org"]), hour, row, cells)


@cache
def _layout() -> tuple[bytes, Layout]:
    begin, schema = newest_of("RequestFinished")
    return begin, layout_of(schema, _WANTED)


@lru_cache(_KEPT)
def _row(key: bytes, user: bytes | None, model: bytes, backend: bytes) -> str:
    named = None if user is None else text_in(user)
    return UsageRow.of(text_in(key), named, text_in(model), text_in(backend)).encoded()


@lru_cache(_KEPT)
def _hour_of_rest(time: bytes) -> str:
    """The hour of a time that lacks its first byte, which says where in 64 ms it lies: no hour begins there."""
    return _hour(number_in(_NO_BITS + time) // HOUR_MS)


def _decoded(value: bytes | None) -> Iterator[Line]:
    ref, attempts, fields = attempts_in(value)
    revision = 0 if ref is None else fields["revision"]
    for attempt in attempts:
        named = UsageRow.of(fields["key_id"], fields["user"], fields["model"], attempt["backend"])
        row, counted = named.encoded(), _counted(attempt)
        hour = _hour(attempt["finished_at_ms"] // HOUR_MS)
        yield Line(fields["org"], hour, row, _cells(row, amounts_of(counted, revision)))


def _counted(attempt: Mapping[str, Any]) -> Any:
    return SimpleNamespace(**{name: attempt[name] for name in _READ})


def _cells(row: str, amounts: tuple[int, ...]) -> dict[str, int]:
    return {name: amount for name, amount in zip(_names(row), amounts, strict=True) if amount}


@lru_cache(_KEPT)
def _names(row: str) -> tuple[str, ...]:
    return tuple(cell(row, measure) for measure in MEASURES)


@lru_cache(_KEPT)
def _hour(number: int) -> str:
    return hour_of(number * HOUR_MS)
