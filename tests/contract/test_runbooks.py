"""Runbooks have one shape, name what exists, and can be read at three in the morning."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from schemas.metrics import METRICS
from tests.support.runbook_files import (
    FOLDER,
    SECTIONS,
    Step,
    read_runbook,
    runbooks,
    steps_of,
)

LINES_MAX = 90
_METRIC = re.compile(r"tallygate_[a-z_]+")
_LINK = re.compile(r"\]\(([^)#]+)\)")


@pytest.mark.parametrize("path", runbooks(), ids=lambda path: path.stem)
def test_a_runbook_says_what_each_says_in_the_same_order(path: Path) -> None:
    """How you see it, what clients see, what to look at, what to do, when it is over, what was lost; and it is short."""
    runbook = read_runbook(path)

    assert tuple(runbook.sections) == SECTIONS
    assert runbook.lines <= LINES_MAX
    assert len(runbook.steps) >= 5
    assert runbook.steps[-1].says == ("difference 0",)


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.md")), ids=lambda path: path.stem)
def test_what_a_runbook_names_exists(path: Path) -> None:
    """Metrics are of the list, links lead to files."""
    text = path.read_text(encoding="utf-8")

    assert set(_METRIC.findall(text)) <= set(METRICS)
    assert [each for each in _LINK.findall(text) if not (path.parent / each).exists()] == []


def test_the_page_about_them_lists_all() -> None:
    """Nobody looks for one in a folder at night."""
    text = (FOLDER / "README.md").read_text(encoding="utf-8")

    assert {f"{path.stem}.md" for path in runbooks()} == set(_LINK.findall(text))


def test_commands_are_read_with_what_they_say() -> None:
    """Lines that go on, remarks, several outcomes; an outcome of nothing is a mistake."""
    block = "# look\none \\\n  two\n#> a\n#> b\nthree\n"

    assert steps_of(block) == [Step("one    two", ("a", "b")), Step("three")]
    with pytest.raises(ValueError, match="nobody said this"):
        steps_of("#> a\n")
