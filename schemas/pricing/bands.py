"""Bands of a price: what each service tier bills from one number of input tokens on. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from schemas.events import PinnedPrice, PriceBand
from schemas.pricing.tiers import DEFAULT

__all__ = ["MILLION", "MTOK", "band_of", "bands_of", "half_even", "rate_1h", "rate_5m", "tiers_of"]

MTOK = 1_000_000
"""Tokens that a rate is of."""
MILLION = 1_000_000
"""What a multiplier is in."""


def rate_5m(of_input: int) -> int:
    """The rate of a write for 5 minutes that a price does not state: 1.25 times input, rounded up.

    Source: Anthropic, prompt caching, pricing. Backends that charge no writes do not report them.
    """
    return -(-of_input * 5 // 4)


def rate_1h(of_input: int, of_5m: int) -> int:
    """The rate of a write for an hour that a price does not state: twice input, and never below 5 minutes."""
    return max(2 * of_input, of_5m)


def bands_of(price: PinnedPrice) -> list[PriceBand]:
    """The bands of a price; a flat one has one."""
    return [_flat(price)] if price.details is None else price.details.bands


def tiers_of(bands: list[PriceBand]) -> list[str]:
    """The service tiers that the bands state, each once."""
    return list(dict.fromkeys(band.tier for band in bands))


def band_of(bands: list[PriceBand], tier: str, input_tokens: int) -> PriceBand:
    """The band of a stated tier that bills so much input, whole: a step is no bracket."""
    *_, last = _below(bands, tier, input_tokens)
    return last


def _below(bands: list[PriceBand], tier: str, input_tokens: int) -> Iterator[PriceBand]:
    for band in bands:
        if band.tier == tier and (
            band.above_input_tokens < input_tokens or not band.above_input_tokens
        ):
            yield band


def half_even(numerator: int, denominator: int) -> int:
    """The quotient, rounded to the nearest integer and a tie to the even one."""
    quotient, remainder = divmod(numerator, denominator)
    doubled = 2 * remainder
    odd_tie = doubled == denominator and quotient % 2 == 1
    return quotient + (1 if doubled > denominator or odd_tie else 0)


def _flat(price: PinnedPrice) -> PriceBand:
    of_input = price.input_nano_usd_per_mtok
    of_5m = rate_5m(of_input)
    return PriceBand(
        tier=DEFAULT,
        above_input_tokens=0,
        input_nano_usd_per_mtok=of_input,
        cached_input_nano_usd_per_mtok=price.cached_input_nano_usd_per_mtok,
        cache_write_nano_usd_per_mtok=of_5m,
        cache_write_1h_nano_usd_per_mtok=rate_1h(of_input, of_5m),
        image_input_nano_usd_per_mtok=of_input,
        output_nano_usd_per_mtok=price.output_nano_usd_per_mtok,
        reasoning_nano_usd_per_mtok=price.output_nano_usd_per_mtok,
    )
