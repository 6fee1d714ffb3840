"""Every dialect of usage is booked as its document says; the page is the oracle (faults.md C9)."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import msgspec
import pytest

from dispatcher.operations.usage.dialects import DIALECTS, NAMES, TOOLS
from dispatcher.operations.usage.reading import Told, believed, elsewhere, told
from schemas.pricing.counts import TokenCounts
from tests.support.calls_in_code import ROOT

PAGE = (ROOT / "docs" / "usage-dialects.md").read_text(encoding="utf-8")


class Row(NamedTuple):
    """One row of the page."""

    dialect: str
    sent: dict[str, Any]
    booked: str
    source: str


def _rows() -> list[Row]:
    cells = (line.strip("| ").split(" | ") for line in PAGE.splitlines() if line.startswith("| "))
    return [
        Row(dialect, msgspec.json.decode(sent.strip("`")), booked, source)
        for dialect, sent, booked, source in cells
        if sent.startswith("`")
    ]


ROWS = _rows()


def _read(row: Row) -> Told:
    """As the readers of answers do."""
    usage = row.sent.get("usage")
    if usage is None:
        return elsewhere(row.sent)
    sent = msgspec.Raw(msgspec.json.encode(usage))
    if row.dialect.startswith("embeddings"):
        return told(sent, has_output=False)
    found = told(sent, row.sent.get("service_tier"))
    return found._replace(counts=believed(found.counts, has_text=True))


def _said(found: Told) -> str:
    """In the words of the page."""
    if found.counts is None:
        return "estimated"
    counts = [
        f"{value} {field.name.removesuffix('_tokens').replace('_', ' ')}"
        for field in msgspec.structs.fields(TokenCounts)
        if isinstance(value := getattr(found.counts, field.name), int) and value
    ]
    return ", ".join([*counts, *([f"tier {found.tier}"] if found.tier else [])])


@pytest.mark.parametrize("row", ROWS, ids=[row.dialect for row in ROWS])
def test_a_dialect_is_booked_as_its_row_says(row: Row) -> None:
    """Source, input, tokens."""
    assert _said(_read(row)) == row.booked


def test_each_dialect_of_the_code_has_a_row_with_its_source() -> None:
    """And the other way round a row without a dialect is a case of one."""
    shown = {(row.dialect, row.source) for row in ROWS}

    assert [each for each in DIALECTS if (each.name, each.source) not in shown] == []


def test_each_name_of_the_code_stands_in_a_row() -> None:
    """A name that no source shows is a guess."""
    names = NAMES.keys() | TOOLS.keys()
    shown = {
        name
        for row in ROWS
        for name in re.findall(r'"([A-Za-z0-9_]+)"', str(row.sent).replace("'", '"'))
    }

    assert [name for name in names if name.rpartition(".")[2] not in shown] == []
