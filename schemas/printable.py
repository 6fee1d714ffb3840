"""Foreign text made fit for a terminal. Pure.

What a client, a backend or a log wrote may move a cursor, hide text, ring a bell or reverse the order
of what is read. None of it reaches a terminal: such characters are shown as their escapes.
Sources: ECMA-48 (C0, C1), UAX #9 (bidirectional controls), UTS #55 (invisible characters), Unicode's
``Default_Ignorable_Code_Point``.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final

__all__ = ["one_line", "printable"]

_KEPT: Final = frozenset("\n\t")
_UNSEEN: Final = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0000-\U000e0fff]"
)
"""Printable by their category, and yet nothing is seen of them: joiners, fillers, selectors of variants."""
_MARKS_MAX: Final = 4
"""So many marks may stand on one letter; no script needs more, and a pile covers other lines."""


def printable(text: str) -> str:
    r"""The text with every character that is not printed as itself written as ``\x1b`` or ``\u202e``.

    Lines and tabs stay, for they lay out tables; a text that must be one line is split by its caller.
    """
    if text.isascii() and text.isprintable():
        return text
    shown = []
    # A mark at the beginning of a line would stand on what is not its own.
    marks = _MARKS_MAX
    for char in text:
        if unicodedata.category(char) in ("Mn", "Me"):
            marks += 1
        else:
            marks = _MARKS_MAX if char in _KEPT else 0
        shown.append(char if _is_shown(char) and marks <= _MARKS_MAX else _escape(char))
    return "".join(shown)


def one_line(text: str) -> str:
    """The text as part of a line: what would begin another one, or a column, is shown as its escape."""
    return printable(text).replace("\n", "\\n").replace("\t", "\\t")


def _is_shown(char: str) -> bool:
    # ``isprintable`` is false of all control, format, surrogate, private, unassigned and separator
    # characters but the space.
    return char in _KEPT or (char.isprintable() and not _UNSEEN.match(char))


def _escape(char: str) -> str:
    return char.encode("ascii", "backslashreplace").decode() if char > "\x7f" else repr(char)[1:-1]
