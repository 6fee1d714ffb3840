"""Markdown in the few forms that the generated references use. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

_UNITS_MS: Final = (("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1_000), ("ms", 1))
_UNITS_BYTES: Final = (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10))


def page(title: str, source: str, about: str, *parts: str) -> str:
    """A whole page; its first line says where its facts come from and how it is made anew."""
    made = f"<!-- Made by `make docs` from {source}; change that, not this. -->"
    return "\n\n".join([made, f"# {title}", about, *parts]) + "\n"


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; what would end a cell early is escaped."""
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(map(_cell, row)) + " |" for row in rows]
    return "\n".join(lines)


def code(text: str) -> str:
    """A name or value as it is typed; nothing for nothing."""
    return f"`{text}`" if text else ""


def duration(ms: int) -> str:
    """Milliseconds in the largest unit that states them exactly."""
    name, size = next(unit for unit in _UNITS_MS if ms % unit[1] == 0)
    return f"{ms // size} {name}"


def size(count: int) -> str:
    """Bytes in the largest unit that states them exactly."""
    for name, unit in _UNITS_BYTES:
        if count and count % unit == 0:
            return f"{count // unit} {name}"
    return f"{count} B"


def prose(docstring: str) -> str:
    """A docstring as one line of Markdown."""
    return " ".join(docstring.replace("``", "`").split())


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())
