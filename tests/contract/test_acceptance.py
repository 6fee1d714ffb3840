"""The table of acceptance names tests that are there, for each number."""

from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).parents[1]
_ROW = re.compile(r"^\| ([1-9]) \| .+ \| (`e2e/.+`) \|$", re.MULTILINE)


def test_every_number_names_tests_that_exist() -> None:
    """Where one is renamed its row is, too."""
    rows = _ROW.findall((TESTS / "README.md").read_text(encoding="utf-8"))
    missing = [
        name
        for _, cell in rows
        for file, _, name in (each.strip("`").partition("::") for each in cell.split(", "))
        if f"def {name}(" not in (TESTS / file).read_text(encoding="utf-8")
    ]

    assert {number for number, _ in rows} == set("123456789")
    assert missing == []
