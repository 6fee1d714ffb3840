"""Money: exact integers in, exact integers out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.money import MAX_NANO_USD, nano_usd, usd


@given(st.integers(0, MAX_NANO_USD))
def test_an_amount_survives_its_decimal_form(amount: int) -> None:
    """``usd`` and ``nano_usd`` are inverse to each other."""
    assert nano_usd(usd(amount)) == amount


@pytest.mark.parametrize(
    "amount",
    [
        "",
        "ten",
        "-0.000000001",
        "0.0000000001",
        "1." + "0" * 30 + "1",
        "9007199.254740992",
        "1e999999",
        "NaN",
        "sNaN",
        "Infinity",
    ],
    ids=[
        "empty",
        "a word",
        "negative",
        "finer than nano",
        "finer by 31 digits",
        "above the maximum",
        "astronomical",
        "not a number",
        "signalling",
        "infinite",
    ],
)
def test_an_amount_without_an_exact_form_is_refused(amount: str) -> None:
    """Never rounded, never another exception than ``ValueError``."""
    with pytest.raises(ValueError, match=r"USD|decimal"):
        nano_usd(amount)


def test_a_correction_may_be_shown_negative() -> None:
    """Adjustments are signed differences."""
    assert usd(-1_500_000_000) == "-1.500000000"
