"""The cost of flat prices: exact integers in, exact integers out. All other dimensions: ``test_invoices``."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.events import PinnedPrice
from schemas.pricing.cost import cost
from schemas.pricing.counts import TokenCounts

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

    assert 0 <= cost(price, counts) <= cost(price, grown)


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

    assert cost(price, counts) == round(exact)


@pytest.mark.parametrize(
    ("price_per_mtok", "nano_usd"),
    [(500_000, 0), (500_001, 1), (1_500_000, 2), (2_500_000, 2), (2_499_999, 2)],
    ids=["tie to 0", "above a tie", "tie to 2", "tie to 2 from above", "below a tie"],
)
def test_half_a_nano_usd_goes_to_the_even_neighbour(price_per_mtok: int, nano_usd: int) -> None:
    """One token at a price that ends on a tie."""
    price = PinnedPrice(
        version="m@1",
        input_nano_usd_per_mtok=price_per_mtok,
        cached_input_nano_usd_per_mtok=0,
        output_nano_usd_per_mtok=0,
    )

    assert cost(price, TokenCounts(1, 0)) == nano_usd
