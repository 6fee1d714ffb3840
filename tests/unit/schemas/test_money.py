"""Money: exact integers in, exact integers out."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.events import PinnedPrice
from schemas.money import MAX_NANO_USD, TokenCounts, cost_nano_usd, nano_usd, usd

_PRICE = st.integers(0, 10**12)
_PRICES = st.builds(
    PinnedPrice,
    version=st.just("m@1"),
    input_nano_usd_per_mtok=_PRICE,
    cached_input_nano_usd_per_mtok=_PRICE,
    output_nano_usd_per_mtok=_PRICE,
)
_TOKENS = st.integers(0, 10**7)


@st.composite
def _counts(draw: st.DrawFn) -> TokenCounts:
    """Counts as backends may report them: cached tokens are part of input."""
    input_tokens = draw(_TOKENS)
    return TokenCounts(input_tokens, draw(_TOKENS), draw(st.integers(0, input_tokens)))


@given(_PRICES, _counts(), st.integers(0, 1_000), st.integers(0, 1_000))
def test_cost_never_falls_as_input_or_output_grow(
    price: PinnedPrice, counts: TokenCounts, more_input: int, more_output: int
) -> None:
    """One more token can not make a call cheaper, and no cost is negative."""
    grown = TokenCounts(
        counts.input_tokens + more_input, counts.output_tokens + more_output, counts.cached_tokens
    )

    assert 0 <= cost_nano_usd(price, counts) <= cost_nano_usd(price, grown)


@given(_PRICES, _counts())
def test_cost_is_the_exact_sum_rounded_half_even_once(
    price: PinnedPrice, counts: TokenCounts
) -> None:
    """The same as rational arithmetic with one rounding at the end."""
    exact = Fraction(
        (counts.input_tokens - counts.cached_tokens) * price.input_nano_usd_per_mtok
        + counts.cached_tokens * price.cached_input_nano_usd_per_mtok
        + counts.output_tokens * price.output_nano_usd_per_mtok,
        10**6,
    )

    assert cost_nano_usd(price, counts) == round(exact)


@pytest.mark.parametrize(
    ("price_per_mtok", "cost"),
    [(500_000, 0), (500_001, 1), (1_500_000, 2), (2_500_000, 2), (2_499_999, 2)],
    ids=["tie to 0", "above a tie", "tie to 2", "tie to 2 from above", "below a tie"],
)
def test_half_a_nano_usd_goes_to_the_even_neighbour(price_per_mtok: int, cost: int) -> None:
    """One token at a price that ends on a tie."""
    price = PinnedPrice(
        version="m@1",
        input_nano_usd_per_mtok=price_per_mtok,
        cached_input_nano_usd_per_mtok=0,
        output_nano_usd_per_mtok=0,
    )

    assert cost_nano_usd(price, TokenCounts(1, 0)) == cost


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
