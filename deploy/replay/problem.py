"""The failure of a replay that whoever asked for it can mend, in three lines."""

from __future__ import annotations

__all__ = ["ReplayProblem"]


class ReplayProblem(Exception):
    """It cannot go on: what happened, why, and what to do about it."""

    def __init__(self, what: str, why: str, fix: str, *, is_usage: bool = False) -> None:
        super().__init__(what, why, fix)
        self.what = what
        self.why = why
        self.fix = fix
        self.is_usage = is_usage
        """Whether the command line itself is at fault."""
