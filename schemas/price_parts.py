"""The parts of events that are about prices: what a request can reach, and the price that was pinned. Pure.

Everybody imports them from ``schemas.events``. Rates are nano-USD per million tokens; the sums are made in
``schemas.pricing``.
"""

from __future__ import annotations

import msgspec

__all__ = [
    "PinnedPrice",
    "PriceBand",
    "PriceDetails",
    "Reach",
    "ToolCalls",
    "ToolPrice",
    "Uplift",
]


class Reach(msgspec.Struct, frozen=True, kw_only=True):
    """What a request can reach of a price beside plain input and output."""

    service_tier: str | None = None
    """Service tier that the client asked for; null when it named none."""
    cache_writes: bool = False
    """Whether input may be written to a cache for 5 minutes."""
    cache_writes_1h: bool = False
    """Whether input may be written to a cache for an hour."""
    audio_input_tokens_bound: int = 0
    """Upper bound of audio tokens among the input."""
    image_input_tokens_bound: int = 0
    """Upper bound of image tokens among the input."""
    audio_output: bool = False
    """Whether output may be audio."""
    image_output: bool = False
    """Whether output may be images."""
    tool_calls_bound: int = 0
    """Upper bound of calls of hosted tools, all kinds together."""
    tool_kinds: list[str] = []
    """Kinds of hosted tools that it may call, such as web_search."""


class ToolCalls(msgspec.Struct, frozen=True, kw_only=True):
    """Calls of one kind of hosted tool."""

    kind: str
    """Kind, as in the price."""
    calls: int
    """How many."""


class PriceBand(msgspec.Struct, frozen=True, kw_only=True):
    """What one service tier bills from one number of input tokens on: nano-USD per million tokens."""

    tier: str
    """Service tier; default is the one of requests that name none."""
    above_input_tokens: int
    """It bills requests with more input tokens than this, up to the next band of its tier."""
    input_nano_usd_per_mtok: int
    """Input tokens of no other kind."""
    cached_input_nano_usd_per_mtok: int
    """Input tokens read from a cache."""
    cache_write_nano_usd_per_mtok: int
    """Input tokens written to a cache for 5 minutes."""
    cache_write_1h_nano_usd_per_mtok: int
    """Input tokens written to a cache for an hour."""
    audio_input_nano_usd_per_mtok: int | None = None
    """Audio tokens among the input; null when the price does not state them."""
    image_input_nano_usd_per_mtok: int
    """Image tokens among the input."""
    output_nano_usd_per_mtok: int
    """Output tokens of no other kind."""
    reasoning_nano_usd_per_mtok: int
    """Reasoning tokens among the output."""
    audio_output_nano_usd_per_mtok: int | None = None
    """Audio tokens among the output; null when the price does not state them."""
    image_output_nano_usd_per_mtok: int | None = None
    """Image tokens among the output; null when the price does not state them."""
    request_nano_usd: int = 0
    """Fee of each request, in nano-USD."""


class ToolPrice(msgspec.Struct, frozen=True, kw_only=True):
    """What a call of one kind of hosted tool costs."""

    kind: str
    """Kind, such as web_search."""
    call_nano_usd: int
    """Nano-USD per call."""


class Uplift(msgspec.Struct, frozen=True, kw_only=True):
    """What a backend multiplies the price of tokens by, such as one in a region."""

    backend: str
    """Backend id."""
    millionths: int
    """The multiplier in millionths: 1100000 is 1.1."""


class PriceDetails(msgspec.Struct, frozen=True, kw_only=True):
    """All that a price says beyond three flat rates."""

    bands: list[PriceBand]
    """At least those of the tier default; each tier begins above 0 and ascends."""
    tools: list[ToolPrice] = []
    """Hosted tools."""
    uplifts: list[Uplift] = []
    """Backends that multiply the price of tokens; others multiply by 1."""
    auto_tiers: list[str] = []
    """Tiers that may bill a request that names none, beside default."""


class PinnedPrice(msgspec.Struct, frozen=True, kw_only=True):
    """The price that admission pinned, in nano-USD per million tokens."""

    version: str
    """Version of the price, as in the config log."""
    input_nano_usd_per_mtok: int
    """Uncached input tokens."""
    cached_input_nano_usd_per_mtok: int
    """Input tokens read from the backend's cache."""
    output_nano_usd_per_mtok: int
    """Output tokens, reasoning included."""
    details: PriceDetails | None = None
    """All dimensions, where three rates do not say all; null when they do."""
