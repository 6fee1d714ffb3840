"""Foreign text is shown, never obeyed."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.printable import one_line, printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("Grüße ✓ …  \N{CJK UNIFIED IDEOGRAPH-4E2D}", "Grüße ✓ …  \N{CJK UNIFIED IDEOGRAPH-4E2D}"),
        ("a\x1b[2J\x1b]0;t\x07", "a\\x1b[2J\\x1b]0;t\\x07"),
        ("\x00\x08\r\x7f", "\\x00\\x08\\r\\x7f"),
        ("\x85\x9b31m", "\\x85\\x9b31m"),
        ("a\N{RIGHT-TO-LEFT OVERRIDE}b\N{LEFT-TO-RIGHT ISOLATE}", "a\\u202eb\\u2066"),
        ("\N{ZERO WIDTH SPACE}\N{LINE SEPARATOR}\ufeff", "\\u200b\\u2028\\ufeff"),
        ("\U000e0041\ud800\ue000", "\\U000e0041\\ud800\\ue000"),
        ("lines\nand\ttabs", "lines\nand\ttabs"),
    ],
)
def test_what_would_be_obeyed_is_shown_as_its_escape(text: str, shown: str) -> None:
    """C0, C1, bidirectional controls, invisible and unassigned characters, halves of pairs."""
    assert printable(text) == shown


def test_a_part_of_a_line_begins_no_other_one() -> None:
    """Nor another column."""
    assert one_line("a\n\x1bb\tc") == "a\\n\\x1bb\\tc"


@given(st.text(st.characters()))
def test_nothing_else_gets_through(text: str) -> None:
    """Whatever the text."""
    for char in printable(text):
        assert char in "\n\t" or unicodedata.category(char) not in ("Cc", "Cf", "Cs", "Co", "Cn")
