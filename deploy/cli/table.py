"""Tables: aligned text for programs and files, laid out by Rich on a terminal. Pure.

A cell is one line and moves no cursor, whatever was in the value.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from schemas.printable import one_line

if TYPE_CHECKING:
    from rich.console import RenderableType


@dataclass(frozen=True)
class Table:
    """Column names, rows of cells, and which columns are numbers and stand to the right."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    is_number: tuple[bool, ...]

    def plain(self) -> str:
        """Aligned columns under their names, as wide as they are."""
        lines = [self.columns, *self.rows]
        widths = [max(map(_cells, column)) for column in zip(*lines, strict=True)]
        return "\n".join(self._line(line, widths).rstrip() for line in lines)

    def _line(self, line: Sequence[str], widths: Sequence[int]) -> str:
        padded = []
        for text, width, right in zip(line, widths, self.is_number, strict=True):
            padding = " " * (width - _cells(text))
            padded.append(padding + text if right else text + padding)
        return "  ".join(padded)

    def rich(self) -> RenderableType:
        """The same within the width of a terminal: what does not fit is folded, nothing is cut."""
        from rich.table import Table as RichTable  # noqa: PLC0415
        from rich.text import Text  # noqa: PLC0415

        table = RichTable(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
        for name, right in zip(self.columns, self.is_number, strict=True):
            table.add_column(Text(name), justify="right" if right else "left", overflow="fold")
        for row in self.rows:
            table.add_row(*map(Text, row))
        return table


def table(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> Table:
    """A table of some fields of the rows; absent values are shown as ``-``."""
    rows = list(rows)
    is_number = [
        bool(rows) and all(isinstance(row.get(c), int | float | None) for row in rows)
        for c in columns
    ]
    cells = tuple(tuple(_cell(row.get(column)) for column in columns) for row in rows)
    return Table(tuple(map(one_line, columns)), cells, tuple(is_number))


def csv_text(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    """Comma-separated values with a header line (RFC 4180); absent values are empty."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(columns)
    for row in rows:
        writer.writerow([row.get(column) for column in columns])
    return out.getvalue().rstrip("\r\n")


def _cells(text: str) -> int:
    """How many columns of a terminal the text takes; East Asian characters take two."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len  # noqa: PLC0415

    return cell_len(text)


def _cell(value: Any) -> str:
    match value:
        case None | "" | [] | ():
            return "-"
        case list() | tuple():
            return one_line(",".join(map(str, value)))
        case _:
            return one_line(str(value))
