"""How commands speak: data on stdout, everything else on stderr, one exit code per kind of end.

There is no colour, so what is piped is what is seen.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, TextIO

from deploy.terminal import say
from schemas.printable import one_line


class Exit(IntEnum):
    """Exit codes; they are part of the interface."""

    OK = 0
    FAILURE = 1
    USAGE = 2
    PARTIAL = 3
    REFUSED = 4
    """The gateway answered with a 4xx status."""
    BROKEN = 5
    """The gateway answered with a 5xx status."""


class CommandFailed(Exception):
    """The command cannot go on: what happened, why, and what to do about it."""

    def __init__(self, what: str, why: str, fix: str, code: Exit = Exit.FAILURE) -> None:
        super().__init__(what, why, fix)
        self.code = code
        self.text = f"error: {what}\n  why: {why}\n  fix: {fix}"

    def with_code(self, code: Exit) -> CommandFailed:
        """The same failure under another exit code."""
        what, why, fix = self.args
        return CommandFailed(what, why, fix, code)


@dataclass(frozen=True)
class Output:
    """Where a command writes, and whether it writes for programs."""

    data: TextIO
    story: TextIO
    as_json: bool

    def result(self, value: Mapping[str, Any], text: str) -> None:
        """The result: the value as one JSON object, or the text."""
        say(json.dumps(value) if self.as_json else text, self.data)

    def line(self, value: Mapping[str, Any]) -> None:
        """One of many JSON objects, each on a line of its own."""
        say(json.dumps(value), self.data)

    def tell(self, text: str) -> None:
        """Something for people only."""
        say(text, self.story)


def table(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    """Aligned columns under their names; numbers to the right, absent values as ``-``."""
    rows = list(rows)
    cells = [[_cell(row.get(column)) for column in columns] for row in rows]
    widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
    is_number = [
        bool(rows) and all(isinstance(row.get(c), int | float | None) for row in rows)
        for c in columns
    ]
    lines = [
        "  ".join(
            text.rjust(width) if right else text.ljust(width)
            for text, width, right in zip(line, widths, is_number, strict=True)
        ).rstrip()
        for line in [list(columns), *cells]
    ]
    return "\n".join(lines)


def csv_text(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    """Comma-separated values with a header line (RFC 4180); absent values are empty."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(columns)
    for row in rows:
        writer.writerow([row.get(column) for column in columns])
    return out.getvalue().rstrip("\r\n")


def _cell(value: Any) -> str:
    match value:
        case None | "" | [] | ():
            return "-"
        case list() | tuple():
            return one_line(",".join(map(str, value)))
        case _:
            return one_line(str(value))


def shown(value: Any) -> Any:
    """A foreign value for a line of text: every text in it is one line, and can move no cursor."""
    match value:
        case str():
            return one_line(value)
        case list():
            return [shown(item) for item in value]
        case dict():
            return {one_line(str(name)): shown(item) for name, item in value.items()}
        case _:
            return value
