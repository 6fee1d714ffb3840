"""The one exception of the embedded stack: something the user can act on.

It always carries three sentences, so that no failure reaches the terminal without its remedy.
"""

from __future__ import annotations


class StackError(Exception):
    """The stack cannot start or go on: what happened, why, and what to do about it."""

    def __init__(self, what: str, why: str, fix: str) -> None:
        super().__init__(what, why, fix)
        self.what = what
        self.why = why
        self.fix = fix

    def __str__(self) -> str:
        return f"error: {self.what}\n  why: {self.why}\n  fix: {self.fix}"
