"""A price list as an operator writes it: entries with dates, their steps and service tiers. Pure.

Amounts are decimal strings of USD, rates are USD per million tokens. What the words mean in integers stands in
``price_list``.
"""

from __future__ import annotations

from typing import Annotated, TypeAlias

import msgspec

__all__ = ["Day", "Multiplier", "Price", "PriceStep", "TierPrice", "Usd"]

# A pattern ends with \Z: $ would let a trailing newline pass, into ledger keys and headers.
Usd: TypeAlias = Annotated[str, msgspec.Meta(pattern=r"^[0-9]{1,7}(\.[0-9]{1,9})?\Z")]
Multiplier: TypeAlias = Annotated[str, msgspec.Meta(pattern=r"^[0-9]{1,2}(\.[0-9]{1,6})?\Z")]
"""A decimal above 0 and up to 10."""
Day: TypeAlias = Annotated[str, msgspec.Meta(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}\Z")]
"""A date, which begins at midnight UTC."""
_TierName: TypeAlias = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9][a-z0-9_-]{0,31}\Z")]
_ToolKind: TypeAlias = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9][a-z0-9_:-]{0,63}\Z")]


class _Rates(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    input_usd_per_mtok: Usd | None = None
    output_usd_per_mtok: Usd | None = None
    cached_input_usd_per_mtok: Usd | None = None
    cache_write_usd_per_mtok: Usd | None = None
    cache_write_1h_usd_per_mtok: Usd | None = None
    reasoning_usd_per_mtok: Usd | None = None
    audio_input_usd_per_mtok: Usd | None = None
    audio_output_usd_per_mtok: Usd | None = None
    image_input_usd_per_mtok: Usd | None = None
    image_output_usd_per_mtok: Usd | None = None
    request_usd: Usd | None = None


class PriceStep(_Rates, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a request with more input tokens is billed, all of it; what a step does not state stays."""

    above_input_tokens: Annotated[int, msgspec.Meta(ge=1, le=10**9)]


_Steps: TypeAlias = Annotated[tuple[PriceStep, ...], msgspec.Meta(max_length=8)]


class TierPrice(_Rates, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A service tier: a multiple of the default's rates and steps, rates of its own, or both."""

    multiplier: Multiplier | None = None
    steps: _Steps = ()


class Price(
    _Rates, frozen=True, forbid_unknown_fields=True, kw_only=True, rename={"from_": "from"}
):
    """One entry of a price list: in force from its date, at midnight UTC, until the next one begins."""

    from_: Day | None = None
    """``None``: since ever."""
    steps: _Steps = ()
    tiers: Annotated[dict[_TierName, TierPrice], msgspec.Meta(max_length=8)] = {}
    auto_tiers: Annotated[tuple[_TierName, ...], msgspec.Meta(max_length=8)] | None = None
    """Tiers that may bill a request that names none; ``None``: priority and scale, where they are stated."""
    tool_call_usd: Annotated[dict[_ToolKind, Usd], msgspec.Meta(max_length=32)] = {}
