"""The cost of what an attempt used, at the price that admission pinned. Pure.

Sum first, round once: the exact sum over all dimensions becomes an integer of nano-USD at the end, half-even.
Multipliers of regions apply to tokens, not to fees of requests and tool calls.
"""

from __future__ import annotations

from collections.abc import Iterable

from schemas.events import PinnedPrice, PriceBand, ToolPrice
from schemas.pricing.bands import MILLION, MTOK, band_of, bands_of, half_even, tiers_of
from schemas.pricing.counts import TokenCounts
from schemas.pricing.tiers import billed

__all__ = ["cost", "tool_rate", "uplift_of"]


def cost(
    price: PinnedPrice, counts: TokenCounts, tier: str | None = None, backend: str = ""
) -> int:
    """Nano-USD of what was used, in the service tier that the answer told (or was asked for, if it told none).

    A tier that the price does not state is billed as its dearest one; ``flex`` and ``batch`` as default.
    """
    if price.details is None and counts.is_plain:
        return _flat_cost(price, counts)
    bands = bands_of(price)
    return max(
        _cost_in(price, band_of(bands, name, counts.input_tokens), counts, backend)
        for name in billed(tier, tiers_of(bands))
    )


def _flat_cost(price: PinnedPrice, counts: TokenCounts) -> int:
    uncached = counts.input_tokens - counts.cached_tokens
    return half_even(
        uncached * price.input_nano_usd_per_mtok
        + counts.cached_tokens * price.cached_input_nano_usd_per_mtok
        + counts.output_tokens * price.output_nano_usd_per_mtok,
        MTOK,
    )


def _cost_in(price: PinnedPrice, band: PriceBand, counts: TokenCounts, backend: str) -> int:
    """What the band bills. Kinds that the price does not state are billed as plain text: a request that could
    use them had no price (``unpriced``), so a backend that reports them did what was not asked."""
    of_input = band.input_nano_usd_per_mtok
    of_output = band.output_nano_usd_per_mtok
    tokens = _side(
        counts.input_tokens,
        of_input,
        (
            (band.cached_input_nano_usd_per_mtok, counts.cached_tokens),
            (band.cache_write_nano_usd_per_mtok, counts.cache_write_tokens),
            (band.cache_write_1h_nano_usd_per_mtok, counts.cache_write_1h_tokens),
            (_or(band.audio_input_nano_usd_per_mtok, of_input), counts.audio_input_tokens),
            (band.image_input_nano_usd_per_mtok, counts.image_input_tokens),
        ),
    ) + _side(
        counts.output_tokens,
        of_output,
        (
            (band.reasoning_nano_usd_per_mtok, counts.reasoning_tokens),
            (_or(band.audio_output_nano_usd_per_mtok, of_output), counts.audio_output_tokens),
            (_or(band.image_output_nano_usd_per_mtok, of_output), counts.image_output_tokens),
        ),
    )
    fees = band.request_nano_usd + _tools(price, counts)
    return half_even(tokens * uplift_of(price, backend) + fees * MTOK * MILLION, MTOK * MILLION)


def _side(total: int, plain: int, parts: Iterable[tuple[int, int]]) -> int:
    """What input or output amounts to: parts by rate and tokens, the dearest first, and the rest plain."""
    amount, left = 0, total
    for rate, tokens in sorted(parts, reverse=True):
        taken = min(tokens, left)
        amount += taken * rate
        left -= taken
    return amount + left * plain


def _tools(price: PinnedPrice, counts: TokenCounts) -> int:
    tools = price.details.tools if price.details else []
    if not counts.tool_calls or not tools:
        return 0
    dearest = max(tool.call_nano_usd for tool in tools)
    amount, left = 0, counts.tool_calls
    for kind, calls in counts.tool_kinds:
        rate = tool_rate(tools, kind)
        taken = min(calls, left)
        amount += taken * (dearest if rate is None else rate)
        left -= taken
    return amount + left * dearest


def tool_rate(tools: Iterable[ToolPrice], kind: str) -> int | None:
    """Nano-USD of a call: of its kind, else of the family before a colon (``web_search:low``: web_search)."""
    rates = {tool.kind: tool.call_nano_usd for tool in tools}
    return rates.get(kind, rates.get(kind.partition(":")[0]))


def uplift_of(price: PinnedPrice, backend: str) -> int:
    """The multiplier of a backend, in millionths."""
    uplifts = price.details.uplifts if price.details else []
    return next((each.millionths for each in uplifts if each.backend == backend), MILLION)


def _or(rate: int | None, other: int) -> int:
    return other if rate is None else rate
