"""Price lists in integers: what a configured price means, and which entry is in force when. Pure.

Every rate that is not stated has a documented fall-back, applied here once, so that a pinned price says all:
cached input and image input bill as input, a cache write as 1.25 times input (an hour's as twice), reasoning as
output. Audio, and images that are made, bill as what is stated or make the request one without a price.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Final, TypeAlias

from schemas.events import PinnedPrice, PriceBand, PriceDetails, ToolPrice, Uplift
from schemas.money import NANO_PER_USD, nano_usd
from schemas.pricing.bands import MILLION, rate_1h, rate_5m
from schemas.pricing.entries import Price, PriceStep, TierPrice
from schemas.pricing.tiers import AUTO, DEFAULT, named

__all__ = ["PriceList", "price_list"]

_RATE_MAX_NANO_USD: Final = 10_000 * NANO_PER_USD
"""Keeps the hold of the largest request far below what the ledger computes exactly."""
_UPLIFT_MAX: Final = 10 * MILLION

_INPUT: Final = "input_nano_usd_per_mtok"
_OUTPUT: Final = "output_nano_usd_per_mtok"
_OF_INPUT: Final = (
    "cached_input_nano_usd_per_mtok",
    "cache_write_nano_usd_per_mtok",
    "cache_write_1h_nano_usd_per_mtok",
    "image_input_nano_usd_per_mtok",
)
_OF_OUTPUT: Final = ("reasoning_nano_usd_per_mtok",)

_Stated: TypeAlias = dict[str, int]
"""Fields of a band that somebody stated, in nano-USD."""


@dataclass(frozen=True, slots=True)
class PriceList:
    """The prices of one model."""

    entries: tuple[tuple[int, PinnedPrice], ...] = ()
    """Unix milliseconds from which each is in force, and what is pinned then; the newest first."""

    def at(self, at_ms: int) -> PinnedPrice | None:
        """The price of a request that was accepted then; ``None`` before the first entry."""
        for from_ms, price in self.entries:
            if at_ms >= from_ms:
                return price
        return None


def price_list(
    version: str, prices: Sequence[Price], multipliers: Mapping[str, str | None]
) -> PriceList:
    """The list under the version of its model; ``multipliers`` are those of its backends.

    Raises ``ValueError`` for a price that has no exact integers, or that contradicts itself.
    """
    uplifts = [
        Uplift(backend=backend, millionths=_millionths(text))
        for backend, text in multipliers.items()
        if text is not None
    ]
    entries = [
        (_begin_ms(price), _pinned(price, _name(version, price, prices), uplifts))
        for price in prices
    ]
    if len({begin for begin, _ in entries}) < len(entries):
        raise ValueError("two prices are in force from the same date")
    return PriceList(tuple(sorted(entries, key=lambda entry: entry[0], reverse=True)))


def _name(version: str, price: Price, prices: Sequence[Price]) -> str:
    """One undated entry is all there is to the version; of others the date says which."""
    return (
        version if len(prices) == 1 and price.from_ is None else f"{version}/{price.from_ or '-'}"
    )


def _begin_ms(price: Price) -> int:
    if price.from_ is None:
        return 0
    day = date.fromisoformat(price.from_)
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp() * 1000)


def _pinned(price: Price, version: str, uplifts: list[Uplift]) -> PinnedPrice:
    if price.input_usd_per_mtok is None or price.output_usd_per_mtok is None:
        raise ValueError("give both input_usd_per_mtok and output_usd_per_mtok")
    bands = list(_bands(price))
    base, tools = (
        bands[0],
        [
            ToolPrice(kind=kind, call_nano_usd=nano_usd(amount))
            for kind, amount in price.tool_call_usd.items()
        ],
    )
    tiers = [DEFAULT, *price.tiers]
    if unknown := set(price.auto_tiers or ()) - set(tiers):
        raise ValueError(f"auto_tiers names {min(unknown)!r}, which tiers does not state")
    auto = [t for t in tiers if t in AUTO] if price.auto_tiers is None else price.auto_tiers
    details = PriceDetails(
        bands=bands,
        tools=tools,
        uplifts=[each for each in uplifts if each.millionths != MILLION],
        auto_tiers=[tier for tier in auto if tier != DEFAULT],
    )
    return PinnedPrice(
        version=version,
        input_nano_usd_per_mtok=base.input_nano_usd_per_mtok,
        cached_input_nano_usd_per_mtok=base.cached_input_nano_usd_per_mtok,
        output_nano_usd_per_mtok=base.output_nano_usd_per_mtok,
        details=None if _is_flat(price) and not details.uplifts else details,
    )


def _is_flat(price: Price) -> bool:
    """Whether three rates say all of it."""
    return price == Price(
        from_=price.from_,
        input_usd_per_mtok=price.input_usd_per_mtok,
        output_usd_per_mtok=price.output_usd_per_mtok,
        cached_input_usd_per_mtok=price.cached_input_usd_per_mtok,
    )


def _bands(price: Price) -> Iterator[PriceBand]:
    """Those of the default first, then tier by tier."""
    base = _stated(price)
    default = list(_ladder(base, price.steps))
    yield from (_band(DEFAULT, above, stated) for above, stated in default)
    for tier, own in price.tiers.items():
        if named(tier) != tier or tier == DEFAULT:
            raise ValueError(f"{tier!r} is another name of the default tier, or of none")
        yield from (_band(tier, above, stated) for above, stated in _tier(own, default))


def _tier(own: TierPrice, default: Sequence[tuple[int, _Stated]]) -> Iterator[tuple[int, _Stated]]:
    """The tier's steps. Without steps of its own it has those of the default, multiplied if it is a multiple;
    its own rates bill there too, but never below those."""
    stated, below = _stated(own), default
    if own.multiplier is not None:
        millionths = _millionths(own.multiplier)
        below = [(above, _times(base, millionths)) for above, base in default]
    if own.steps:
        yield from _ladder(_over(below[0][1], stated), own.steps)
        return
    for above, base in below:
        dearer = {name: max(rate, base.get(name, 0)) for name, rate in stated.items()}
        yield above, _over(base, dearer if above else stated)


def _ladder(base: _Stated, steps: Sequence[PriceStep]) -> Iterator[tuple[int, _Stated]]:
    """The base, and each step upon those below it."""
    yield 0, base
    above = 0
    for step in steps:
        if step.above_input_tokens <= above:
            raise ValueError("steps ascend by above_input_tokens")
        above, base = step.above_input_tokens, _over(base, _stated(step))
        yield above, base


def _over(below: _Stated, own: _Stated) -> _Stated:
    """What stands above something else. Kinds whose fall-back is input or output follow a new one of these
    rather than stay: a step that doubles input and is silent on what is cached must not halve it."""
    followers = {*(_OF_INPUT if _INPUT in own else ()), *(_OF_OUTPUT if _OUTPUT in own else ())}
    return {name: rate for name, rate in below.items() if name not in followers} | own


def _stated(rates: Price | PriceStep | TierPrice) -> _Stated:
    stated = {}
    for name in _RATE_FIELDS:
        amount = getattr(rates, name)
        if amount is None:
            continue
        if nano_usd(amount) > _RATE_MAX_NANO_USD:
            raise ValueError("a price is above 10000 USD per million tokens")
        stated[_RATE_FIELDS[name]] = nano_usd(amount)
    return stated


_RATE_FIELDS: Final[Mapping[str, str]] = {
    name: name.replace("_usd", "_nano_usd")
    for name in TierPrice.__struct_fields__
    if name.endswith("_usd_per_mtok") or name == "request_usd"
}
"""Fields of an entry, and of a band."""


def _times(stated: _Stated, millionths: int) -> _Stated:
    """Rates of tokens multiplied; a fee of a request is none."""
    multiplied = dict(stated)
    for name, rate in stated.items():
        if name == "request_nano_usd":
            continue
        multiplied[name], rest = divmod(rate * millionths, MILLION)
        if rest:
            raise ValueError(f"multiplied, {name} is finer than 1e-9 USD per million tokens")
    return multiplied


def _band(tier: str, above: int, stated: _Stated) -> PriceBand:
    """The band with all rates that nobody stated at their fall-backs."""
    of_input, of_output = stated[_INPUT], stated[_OUTPUT]
    of_5m = stated.get("cache_write_nano_usd_per_mtok", rate_5m(of_input))
    return PriceBand(
        tier=tier,
        above_input_tokens=above,
        input_nano_usd_per_mtok=of_input,
        cached_input_nano_usd_per_mtok=stated.get("cached_input_nano_usd_per_mtok", of_input),
        cache_write_nano_usd_per_mtok=of_5m,
        cache_write_1h_nano_usd_per_mtok=stated.get(
            "cache_write_1h_nano_usd_per_mtok", rate_1h(of_input, of_5m)
        ),
        audio_input_nano_usd_per_mtok=stated.get("audio_input_nano_usd_per_mtok"),
        image_input_nano_usd_per_mtok=stated.get("image_input_nano_usd_per_mtok", of_input),
        output_nano_usd_per_mtok=of_output,
        reasoning_nano_usd_per_mtok=stated.get("reasoning_nano_usd_per_mtok", of_output),
        audio_output_nano_usd_per_mtok=stated.get("audio_output_nano_usd_per_mtok"),
        image_output_nano_usd_per_mtok=stated.get("image_output_nano_usd_per_mtok"),
        request_nano_usd=stated.get("request_nano_usd", 0),
    )


def _millionths(text: str) -> int:
    millionths = nano_usd(text) // 1_000
    if not 0 < millionths <= _UPLIFT_MAX:
        raise ValueError(f"{text!r} is no multiplier above 0 and up to 10")
    return millionths
