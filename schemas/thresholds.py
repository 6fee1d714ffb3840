"""Percentages of a limit at which something is told. Pure."""

from __future__ import annotations

from typing import Annotated, Final, TypeAlias

import msgspec

PERCENT_MAX: Final = 1_000
PERCENTS_MAX: Final = 10

Percent: TypeAlias = Annotated[int, msgspec.Meta(ge=1, le=PERCENT_MAX)]
"""Of a limit; above 100 for what real use may come to beyond it."""
Percents: TypeAlias = tuple[int, ...]


def read_percents(text: str) -> Percents:
    """Percentages with commas between them, in order; none of an empty text.

    Raises ``ValueError`` with a sentence for whoever wrote it.
    """
    listed = [one.strip() for one in text.split(",")] if text.strip() else []
    if len(listed) > PERCENTS_MAX:
        raise ValueError(f"at most {PERCENTS_MAX} percentages")
    if not all(one.isascii() and one.isdigit() and 1 <= int(one) <= PERCENT_MAX for one in listed):
        raise ValueError(
            f"percentages are whole numbers from 1 to {PERCENT_MAX} with commas between them"
        )
    return tuple(sorted(set(map(int, listed))))
