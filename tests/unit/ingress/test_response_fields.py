"""The page shows the table of a response request's fields."""

from __future__ import annotations

from pathlib import Path

from ingress.apis.openai.responses.response_fields import RESPONSE_FIELDS

_PAGE = Path(__file__).parents[3] / "docs" / "responses.md"


def _table() -> str:
    lines = [f"| `{row.name}` | {row.fate} | {row.why} |" for row in RESPONSE_FIELDS]
    return "\n".join(["| field | what becomes of it | |", "|---|---|---|", *lines])


def test_the_page_shows_the_table() -> None:
    """After a change: ``python -m tests.unit.ingress.test_response_fields`` writes it anew."""
    assert _table() in _PAGE.read_text()


if __name__ == "__main__":
    _head = _PAGE.read_text().split("| field | what")[0]
    _PAGE.write_text(f"{_head}{_table()}\n")
