"""The generated references say what the lists of the code say."""

from __future__ import annotations

import pytest
from pydantic_settings import BaseSettings

from deploy.embedded.environment import SETTINGS, variables_of
from deploy.reference.field_docs import field_docs, own_fields
from deploy.reference.pages import PAGES, PUBLISHED
from schemas.runtime.process.published import FOLDER as PUBLISHED_FOLDER
from schemas.runtime.process.settings import ProcessSettings, WorkerSettings
from schemas.times import LedgerTimes, Times
from tests.support.calls_in_code import ROOT

FOLDER = ROOT / "docs" / "reference"
DESCRIBED = (ProcessSettings, WorkerSettings, *SETTINGS.values(), LedgerTimes, Times)


@pytest.mark.parametrize("name", PAGES)
def test_the_reference_is_current(name: str) -> None:
    """Whoever changes a list makes its page anew."""
    written = (FOLDER / name).read_text(encoding="utf-8") if (FOLDER / name).exists() else ""

    assert written == PAGES[name](), f"docs/reference/{name} is not current: run make docs"


@pytest.mark.parametrize("name", PUBLISHED)
def test_what_is_served_of_the_api_is_current(name: str) -> None:
    """The document and the page that processes read at their start."""
    written = (PUBLISHED_FOLDER / name).read_text(encoding="utf-8")

    assert written == PUBLISHED[name](), f"schemas/published/{name} is not current: run make docs"


@pytest.mark.parametrize("role", SETTINGS)
def test_no_variable_of_a_role_is_missing(role: str) -> None:
    """Whatever class states it."""
    text = PAGES["settings.md"]()

    assert [name for name in variables_of(SETTINGS[role]) if f"`{name}`" not in text] == []


def test_no_generated_page_outlives_its_list() -> None:
    """What nobody makes any more is taken out."""
    made = {
        path.name
        for path in FOLDER.iterdir()
        if "Made by `make docs`" in path.read_text(encoding="utf-8").partition("\n")[0]
    }

    assert made == set(PAGES)


@pytest.mark.parametrize("described", DESCRIBED)
def test_every_field_says_what_it_means(
    described: type[BaseSettings | Times | LedgerTimes],
) -> None:
    """A setting or time without a text would leave a hole in its page."""
    fields = set(own_fields(described)) - {"ledger"}

    assert fields == set(field_docs(described)) & fields
