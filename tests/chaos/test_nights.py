"""Each runbook has its fault, which `make runbooks` makes for real, and no fault is without its runbook."""

from __future__ import annotations

from tests.chaos.nights import NIGHTS
from tests.support.runbook_files import runbooks


def test_each_runbook_has_its_fault() -> None:
    """A page whose commands nobody runs would rot."""
    assert {path.stem for path in runbooks()} == set(NIGHTS)
