"""What language models are given to read is all that there is, and what it points to is there."""

from __future__ import annotations

import re

import pytest

from deploy.reference.llms_pages import SECTIONS, llms_full, llms_of_repository, llms_served
from schemas.api_pages import API_PATHS, LLMS
from tests.support.calls_in_code import ROOT

_LISTED = [file for files in SECTIONS.values() for file in files]


def test_every_page_stands_in_one_section() -> None:
    """Whoever writes a page says for whom it is."""
    pages = {str(path.relative_to(ROOT)) for path in (ROOT / "docs").glob("*.md")}
    pages |= {str(path.relative_to(ROOT)) for path in (ROOT / "docs/reference").glob("*.md")}

    assert sorted(_LISTED) == sorted(set(_LISTED))
    assert pages <= set(_LISTED)


def test_the_file_of_the_repository_is_current() -> None:
    """It has the first sentence of each page."""
    assert (ROOT / "llms.txt").read_text(encoding="utf-8") == llms_of_repository(), "run make docs"


def test_what_it_points_to_is_there() -> None:
    """Pages in the repository, and routes where it is served."""
    files = re.findall(r"^- \[[^\]]+\]\(([^)]+)\): \S", llms_of_repository(), re.MULTILINE)
    routes = re.findall(r"\]\((/[^)]+)\)", llms_served())

    assert files == _LISTED
    assert set(routes) == API_PATHS - {LLMS}


@pytest.mark.parametrize(
    "fact", ["Idempotency-Key", "retry-after-ms", "/v1/messages", "BUDGET_EXCEEDED"]
)
def test_the_whole_has_what_clients_ask_for(fact: str) -> None:
    """Headers, routes, error codes."""
    assert fact in llms_full()
