"""The page shows the table of a message request's fields."""

from __future__ import annotations

from pathlib import Path

from ingress.apis.anthropic.message_fields import MESSAGE_FIELDS

_PAGE = Path(__file__).parents[3] / "docs" / "messages.md"


def _table() -> str:
    lines = [f"| `{row.name}` | {row.fate} | {row.why} | {row.passed} |" for row in MESSAGE_FIELDS]
    head = "| field | what becomes of it | | where it is passed |"
    return "\n".join([head, "|---|---|---|---|", *lines])


def test_the_page_shows_the_table() -> None:
    """After a change: ``python -m tests.unit.ingress.test_message_fields`` writes it anew."""
    assert _table() in _PAGE.read_text()


if __name__ == "__main__":
    _head = _PAGE.read_text().split("| field | what")[0]
    _PAGE.write_text(f"{_head}{_table()}\n")
