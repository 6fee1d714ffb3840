"""Outcomes as a fold takes them, read as cheaply as that goes: hundreds of thousands wait for it. Pure.

What stands in the tables already is told from its headers alone: who it was, and until when it is remembered. Of
what follows the fields that limits depend on are found by the layout of the record; where that does not fit, and
with keys and jobs, which are kept whole, the record is decoded.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache, lru_cache
from typing import Any, Final, NamedTuple

from schemas.codec import MalformedRecord, decode_fields, newest_of
from schemas.headers import FINISHED
from schemas.layouts import Layout, layout_of, number_in, text_in

__all__ = ["Known", "Row", "attempts_in", "known_in", "row_of"]

_FINISHED_TYPE = FINISHED.type.encode()
_WANTED: Final = {
    "request_id": (),
    "org": (),
    "deadline_ms": (),
    "attempts": (),
    "bookings": ("key", "amount"),
}
_PLAIN: Final = ("idempotency_hash", "job")
"""Null in an outcome that nobody finds by a key or as a job."""
_NONE: Final = b"\0"
"""A list of nothing."""
_KEPT: Final = 16_384

_text = lru_cache(_KEPT)(text_in)
_number = lru_cache(_KEPT)(number_in)


class Row(NamedTuple):
    """One record of the outcomes topic."""

    offset: int
    at_ms: int
    org: str
    req: str
    ref: str | None
    deadline_ms: int
    ran: bool
    bookings: tuple[tuple[str, int], ...] = ()
    """Balance and amount."""


class Known(NamedTuple):
    """Who an outcome is of, and until when its client waits, from its headers."""

    req: str
    deadline_ms: int


def known_in(headers: Mapping[str, bytes]) -> Known | None:
    """What the headers say of an outcome; ``None`` when only its value does."""
    request_id, deadline = headers.get("request_id"), headers.get("deadline_ms")
    if request_id is None or deadline is None or headers.get("ce_type") != _FINISHED_TYPE:
        return None
    return Known(request_id.decode(), int(deadline))


def row_of(value: bytes | None, offset: int, at_ms: int) -> tuple[Row, bool]:
    """The row in a record, and whether a key or a list of jobs finds it. Raises ``MalformedRecord`` and
    ``UnknownSchema``."""
    row = _found(value, offset, at_ms)
    return (row, False) if row is not None else _decoded(value, offset, at_ms)


def _found(value: bytes | None, offset: int, at_ms: int) -> Row | None:
    begin, layout = _layout()
    if value is None or not value.startswith(begin):
        return None
    found = layout.record.fullmatch(value, len(begin))
    if found is None:
        return None
    req, org, deadline, attempts, booked = found.group(*_WANTED)
    bookings = layout.items("bookings", booked)
    if bookings is None:
        return None
    return Row(
        offset,
        at_ms,
        _text(org),
        text_in(req),
        None,
        number_in(deadline),
        attempts != _NONE,
        tuple([(_text(key), _number(amount)) for key, amount in bookings]),
    )


@cache
def _layout() -> tuple[bytes, Layout]:
    begin, schema = newest_of("RequestFinished")
    return begin, layout_of(schema, _WANTED, _PLAIN)


def _decoded(value: bytes | None, offset: int, at_ms: int) -> tuple[Row, bool]:
    ref, attempts, fields = attempts_in(value)
    row = Row(
        offset,
        at_ms,
        fields["org"],
        fields["request_id"],
        ref,
        fields["deadline_ms"],
        bool(attempts),
        tuple((each["key"], each["amount"]) for each in fields["bookings"]),
    )
    return row, any(fields.get(name) for name in _PLAIN)


def attempts_in(
    value: bytes | None,
) -> tuple[str | None, list[Mapping[str, Any]], Mapping[str, Any]]:
    """The reference of a correction, the attempts of an outcome or what was corrected of one, and all
    fields. Raises as ``row_of``."""
    kind, fields = decode_fields(value)
    if kind == "RequestFinished":
        return None, fields["attempts"], fields
    if kind == "AttemptAdjusted":
        delta = fields["delta"]
        return f"{delta['attempt']}:{fields['revision']}", [delta], fields
    raise MalformedRecord(f"a {kind} is no outcome")
