"""Each row of the table of errors has its cause, which `make counted-errors` makes from outside."""

from __future__ import annotations

from schemas.errors import ERRORS
from tests.chaos.error_causes import CAUSES


def test_every_row_of_the_table_is_caused() -> None:
    """A new code has to say how a client meets it."""
    assert set(CAUSES) == set(ERRORS)
