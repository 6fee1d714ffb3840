"""Fields that entities of several kinds have: ids, texts for people, times. Pure."""

from __future__ import annotations

from typing import Annotated, TypeAlias

import msgspec

__all__ = ["EntityId", "Name", "TimeMs"]

# A pattern ends with \Z: $ would let a trailing newline pass, into ledger keys and headers.
EntityId: TypeAlias = Annotated[
    str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/@-]{0,127}\Z", max_length=128)
]
_PRINTABLE = (
    "^[^\\x00-\\x1f\\x7f-\\x9f\\u061c\\u200b-\\u200f\\u2028-\\u202e\\u2060-\\u206f\\ufeff]*\\Z"
)
Name: TypeAlias = Annotated[str, msgspec.Meta(pattern=_PRINTABLE, max_length=256)]
"""A text for people. It reaches terminals and logs, so nothing in it is invisible or moves a cursor."""
TimeMs: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=253_402_300_799_999)]
"""Unix milliseconds up to the year 9999, the last one that calendars here can name."""
