"""Foreign text made fit for a terminal. Pure.

What a client, a backend or a log wrote may move a cursor, hide text, ring a bell or reverse the order
of what is read. None of it reaches a terminal: such characters are shown as their escapes.
Sources: ECMA-48 (C0, C1), UAX #9 (bidirectional controls), UTS #55 (invisible characters).
"""

from __future__ import annotations

from typing import Final

__all__ = ["one_line", "printable"]

_KEPT: Final = frozenset("\n\t")


def printable(text: str) -> str:
    r"""The text with every character that is not printed as itself written as ``\x1b`` or ``\u202e``.

    Lines and tabs stay, for they lay out tables; a text that must be one line is split by its caller.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(char if _is_shown(char) else _escape(char) for char in text)


def one_line(text: str) -> str:
    """The text as part of a line: what would begin another one, or a column, is shown as its escape."""
    return printable(text).replace("\n", "\\n").replace("\t", "\\t")


def _is_shown(char: str) -> bool:
    # ``isprintable`` is false of all control, format, surrogate, private, unassigned and separator
    # characters but the space.
    return char.isprintable() or char in _KEPT


def _escape(char: str) -> str:
    return char.encode("ascii", "backslashreplace").decode() if char > "\x7f" else repr(char)[1:-1]
