"""Outcomes as a fold takes them, read as cheaply as that goes: hundreds of thousands wait for it. Pure.

What stands in the tables already is told from its headers alone: who it was, and until when it is remembered.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from types import SimpleNamespace
from typing import Any, NamedTuple

from schemas.codec import MalformedRecord, decode_fields
from schemas.headers import FINISHED
from schemas.times import HOUR_MS
from schemas.usage import MEASURES, UsageRow, amounts_of, cell, hour_of

__all__ = ["Known", "Row", "known_in", "row_of"]

_FINISHED_TYPE = FINISHED.type.encode()


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
    usage: tuple[tuple[str, str, Mapping[str, int]], ...] = ()
    """Hour, row, and what each of its measures adds."""


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


def row_of(value: bytes | None, offset: int, at_ms: int) -> tuple[Row, Mapping[str, Any]]:
    """The row in a record, and its fields. Raises ``MalformedRecord`` and ``UnknownSchema``."""
    kind, fields = decode_fields(value)
    if kind == "RequestFinished":
        ref, revision, attempts = None, 0, fields["attempts"]
    elif kind == "AttemptAdjusted":
        revision, attempts = fields["revision"], [fields["delta"]]
        ref = f"{fields['delta']['attempt']}:{revision}"
    else:
        raise MalformedRecord(f"a {kind} is no outcome")
    bookings = tuple((each["key"], each["amount"]) for each in fields["bookings"])
    usage = tuple(_usage(fields, attempt, revision) for attempt in attempts)
    row = Row(
        offset,
        at_ms,
        fields["org"],
        fields["request_id"],
        ref,
        fields["deadline_ms"],
        bool(attempts),
        bookings,
        usage,
    )
    return row, fields


def _usage(
    fields: Mapping[str, Any], attempt: Mapping[str, Any], revision: int
) -> tuple[str, str, dict[str, int]]:
    named = UsageRow.of(fields["key_id"], fields["user"], fields["model"], attempt["backend"])
    row = named.encoded()
    amounts = zip(MEASURES, amounts_of(SimpleNamespace(**attempt), revision), strict=True)
    hour = _hour(attempt["finished_at_ms"] // HOUR_MS)
    return hour, row, {cell(row, name): amount for name, amount in amounts if amount}


@lru_cache(maxsize=4_096)
def _hour(number: int) -> str:
    return hour_of(number * HOUR_MS)
