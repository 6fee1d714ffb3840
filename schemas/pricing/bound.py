"""The most that a request can cost, whatever becomes of it within its bounds. Pure.

Never below ``cost`` of any use that the reach and the token bounds allow, in any tier that may bill it, at any
backend of the route. Steps need not ascend: all that can be reached are tried.
"""

from __future__ import annotations

from collections.abc import Iterator

from schemas.events import PinnedPrice, PriceBand, Reach, ToolPrice
from schemas.pricing.bands import MILLION, MTOK, bands_of, half_even, tiers_of
from schemas.pricing.cost import tool_rate
from schemas.pricing.tiers import CHEAPER, DEFAULT, named, reached

__all__ = ["NOTHING_SPECIAL", "bound", "unpriced"]

NOTHING_SPECIAL = Reach()
"""Of a request that asks for text and names no tier."""


def bound(price: PinnedPrice, reach: Reach | None, input_tokens: int, output_tokens: int) -> int:
    """Nano-USD: the worst case of at most so many tokens."""
    if price.details is None and reach is None:
        of_input = max(price.input_nano_usd_per_mtok, price.cached_input_nano_usd_per_mtok)
        return half_even(
            input_tokens * of_input + output_tokens * price.output_nano_usd_per_mtok, MTOK
        )
    wanted = reach or NOTHING_SPECIAL
    uplift = max(
        [MILLION, *(each.millionths for each in price.details.uplifts)]
        if price.details
        else [MILLION]
    )
    tools = _tools(price.details.tools if price.details else [], wanted)
    return max(
        half_even(
            (_input(band, wanted, tokens) + _output(band, wanted) * output_tokens) * uplift
            + (band.request_nano_usd + tools) * MTOK * MILLION,
            MTOK * MILLION,
        )
        for band, tokens in _reached(price, wanted, input_tokens)
    )


def unpriced(price: PinnedPrice, reach: Reach | None) -> list[str]:
    """What the request may use and the price does not state, in words; without all of it nobody can tell the cost.

    Kinds of text and images among the input have documented fall-backs, so they are always stated.
    """
    if reach is None:
        return []
    bands, tools = bands_of(price), price.details.tools if price.details else []
    tier, missing = named(reach.service_tier), []
    if tier is not None and tier not in {DEFAULT, *CHEAPER, *tiers_of(bands)}:
        missing.append(f"service tier {tier}")
    used = [band for band, _ in _reached(price, reach, 1 << 62)]
    kinds = (
        ("audio input", reach.audio_input_tokens_bound, "audio_input_nano_usd_per_mtok"),
        ("audio output", reach.audio_output, "audio_output_nano_usd_per_mtok"),
        ("image output", reach.image_output, "image_output_nano_usd_per_mtok"),
    )
    missing += [
        what for what, can, rate in kinds if can and any(getattr(b, rate) is None for b in used)
    ]
    missing += [f"tool {kind}" for kind in reach.tool_kinds if tool_rate(tools, kind) is None]
    if reach.tool_calls_bound and not reach.tool_kinds and not tools:
        missing.append("hosted tools")
    return missing


def _reached(
    price: PinnedPrice, reach: Reach, input_tokens: int
) -> Iterator[tuple[PriceBand, int]]:
    """The bands that may bill the request, and how much input it has at most in each."""
    bands = bands_of(price)
    auto = price.details.auto_tiers if price.details else []
    for tier in reached(reach.service_tier, tiers_of(bands), auto):
        steps = [band for band in bands if band.tier == tier]
        ends = [band.above_input_tokens for band in steps[1:]]
        for band, end in zip(steps, [*ends, input_tokens], strict=True):
            if band.above_input_tokens < input_tokens or band is steps[0]:
                yield band, min(end, input_tokens)


def _input(band: PriceBand, reach: Reach, tokens: int) -> int:
    """The dearest mix of so much input: kinds with a bound of their own first, if they are dearer."""
    rates = [band.input_nano_usd_per_mtok, band.cached_input_nano_usd_per_mtok]
    if reach.cache_writes:
        rates.append(band.cache_write_nano_usd_per_mtok)
    if reach.cache_writes_1h:
        rates.append(band.cache_write_1h_nano_usd_per_mtok)
    dearest, amount, left = max(rates), 0, tokens
    bounded = (
        (band.audio_input_nano_usd_per_mtok or 0, reach.audio_input_tokens_bound),
        (band.image_input_nano_usd_per_mtok, reach.image_input_tokens_bound),
    )
    for rate, most in sorted(bounded, reverse=True):
        taken = min(most, left) if rate > dearest else 0
        amount += taken * rate
        left -= taken
    return amount + left * dearest


def _output(band: PriceBand, reach: Reach) -> int:
    """The dearest rate that output can have."""
    rates = [band.output_nano_usd_per_mtok, band.reasoning_nano_usd_per_mtok]
    if reach.audio_output:
        rates.append(band.audio_output_nano_usd_per_mtok or 0)
    if reach.image_output:
        rates.append(band.image_output_nano_usd_per_mtok or 0)
    return max(rates)


def _tools(tools: list[ToolPrice], reach: Reach) -> int:
    """The dearest that all calls together can be: those of the kinds that were asked for, or of any."""
    if not reach.tool_calls_bound or not tools:
        return 0
    dearest = max(tool.call_nano_usd for tool in tools)
    asked = [tool_rate(tools, kind) for kind in reach.tool_kinds]
    rate = max((dearest if rate is None else rate for rate in asked), default=dearest)
    return reach.tool_calls_bound * rate
