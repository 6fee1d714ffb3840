"""Runbooks as the test reads them: commands in fenced `sh` blocks, and below each what its output says. Pure.

A line `#> text` says that the output of the command above it contains the text, by and by. A line that ends with a backslash
goes on.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

__all__ = ["FOLDER", "SECTIONS", "Runbook", "Step", "read_runbook", "runbooks", "steps_of"]

FOLDER: Final = Path(__file__).parents[2] / "deploy" / "runbooks"
SECTIONS: Final = ("See", "Clients meanwhile", "Look", "Do", "Over when", "Lost")
_BLOCK: Final = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_HEADING: Final = re.compile(r"^## (.+)$", re.MULTILINE)
_SAYS: Final = "#> "


@dataclass(frozen=True, slots=True)
class Step:
    """One command, and what its output has to contain."""

    command: str
    says: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Runbook:
    """One night."""

    name: str
    sections: Sequence[str]
    steps: Sequence[Step]
    lines: int


def runbooks(folder: Path = FOLDER) -> list[Path]:
    """All files of nights; the page about them is none."""
    return sorted(path for path in folder.glob("*.md") if path.name != "README.md")


def read_runbook(path: Path) -> Runbook:
    """One file."""
    text = path.read_text(encoding="utf-8")
    steps = [step for block in _BLOCK.findall(text) for step in steps_of(block)]
    return Runbook(path.stem, _HEADING.findall(text), steps, text.count("\n"))


def steps_of(block: str) -> list[Step]:
    """The commands of a block. Raises ``ValueError`` for an outcome of nothing."""
    steps: list[Step] = []
    for line in _whole_lines(block):
        if line.startswith(_SAYS):
            if not steps:
                raise ValueError(f"nobody said this: {line}")
            last = steps.pop()
            steps.append(Step(last.command, (*last.says, line.removeprefix(_SAYS))))
        elif line and not line.startswith("#"):
            steps.append(Step(line))
    return steps


def _whole_lines(block: str) -> Iterator[str]:
    yield from block.replace("\\\n", " ").splitlines()
