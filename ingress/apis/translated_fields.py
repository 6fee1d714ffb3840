"""Fields of a body that becomes a chat completion: what becomes of each, and the checks that surfaces share. Pure.

Surfaces that are translated are closed: a field that stands in no row of theirs is refused by its name, because whoever
cannot translate a part of a request would ask a model something else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from ingress.apis.parsed_request import Fields, invalid
from ingress.http.refusals import Refusal

__all__ = [
    "Check",
    "Fate",
    "TranslatedField",
    "Wrong",
    "by_name",
    "wrong_content",
    "wrong_name",
    "wrong_names",
]

Fate: TypeAlias = Literal["as it is", "translated", "left out", "refused"]
"""What becomes of a field. What is left out changes neither what the answer means nor what it may cost; what is refused
would."""

Wrong: TypeAlias = Iterator[Refusal]
"""What is wrong, the first of it first: only that is read, so that what follows may count on what stands before."""

Check: TypeAlias = Callable[[str, Fields], Wrong]
"""What is wrong with one part of a content, by where it stands."""

_NAME_CHARS_MAX: Final = 64


class TranslatedField(NamedTuple):
    """One field at the top of a body."""

    name: str
    fate: Fate
    why: str


def by_name(*rows: TranslatedField) -> Mapping[str, TranslatedField]:
    """A surface's table."""
    return {row.name: row for row in rows}


def wrong_names(fields: Fields, rows: Mapping[str, TranslatedField]) -> Wrong:
    """Fields that are unknown, and those that are refused; null counts as absent."""
    for name, value in fields.items():
        row = rows.get(name)
        if row is None:
            yield invalid(name[:_NAME_CHARS_MAX], "is not a field of this route")
        elif row.fate == "refused" and value is not None:
            yield invalid(name, f"is not possible here: {row.why}")


def wrong_name(where: str, name: Any) -> Wrong:
    """What must be a text that says something, and is none."""
    if not isinstance(name, str) or not name:
        yield invalid(where, "must be a non-empty string")


def wrong_content(where: str, content: Any, known: Mapping[str, Check], called: str) -> Wrong:
    """A text, or a list of parts of the kinds that are known there; ``called`` is what the surface calls them."""
    if isinstance(content, str):
        return
    if not isinstance(content, list):
        yield invalid(where, f"must be a string or a list of {called}")
        return
    for index, part in enumerate(content):
        at = f"{where}[{index}]"
        if not isinstance(part, dict):
            yield invalid(at, "must be an object")
            return
        kind = part.get("type")
        check = known.get(kind) if isinstance(kind, str) else None
        if check is None:
            yield invalid(f"{at}.type", f"must be one of {', '.join(known)} here")
            return
        yield from check(at, part)
