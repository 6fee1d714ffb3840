"""Price lists: what an operator states becomes integers for every dimension, and the date decides which."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from schemas.config_state import prices_of
from schemas.entities import Model, Target
from schemas.events import PinnedPrice, PriceBand, Uplift
from schemas.pricing.bands import band_of, bands_of, tiers_of
from schemas.pricing.entries import Price, PriceStep, TierPrice
from schemas.pricing.price_list import price_list

_USD = 1_000_000_000


def _pinned(**stated: Any) -> PinnedPrice:
    """The price that "2" in and "8" out make together with what is stated."""
    fields = {"input_usd_per_mtok": "2", "output_usd_per_mtok": "8"} | stated
    price = price_list("m@1", (Price(**fields),), {}).at(0)
    assert price is not None
    return price


def _band(price: PinnedPrice, tier: str = "default", input_tokens: int = 1) -> PriceBand:
    return band_of(bands_of(price), tier, input_tokens)


def _ms(day: str) -> int:
    return int(datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp() * 1000)


def test_the_entry_in_force_is_the_newest_that_has_begun() -> None:
    """To the millisecond, at midnight UTC; before the first one there is no price."""
    listed = price_list(
        "m@3",
        (
            Price(from_="2026-12-01", input_usd_per_mtok="1", output_usd_per_mtok="1"),
            Price(from_="2026-01-01", input_usd_per_mtok="2", output_usd_per_mtok="2"),
        ),
        {},
    )
    december = _ms("2026-12-01")
    at = [listed.at(_ms("2025-12-31")), listed.at(december - 1), listed.at(december)]

    assert [each and each.version for each in at] == [None, "m@3/2026-01-01", "m@3/2026-12-01"]


def test_three_rates_are_a_flat_price_without_details() -> None:
    """What every request of a plain model carries is as short as it was."""
    assert _pinned(cached_input_usd_per_mtok="0.5").details is None
    assert _pinned().version == "m@1"


def test_what_is_not_stated_has_its_fall_back() -> None:
    """Cached and images as input, writes at 1.25 and 2 times input, reasoning as output; audio has none."""
    band = _band(_pinned(request_usd="0.01"))

    assert band == PriceBand(
        tier="default",
        above_input_tokens=0,
        input_nano_usd_per_mtok=2 * _USD,
        cached_input_nano_usd_per_mtok=2 * _USD,
        cache_write_nano_usd_per_mtok=2_500_000_000,
        cache_write_1h_nano_usd_per_mtok=4 * _USD,
        image_input_nano_usd_per_mtok=2 * _USD,
        output_nano_usd_per_mtok=8 * _USD,
        reasoning_nano_usd_per_mtok=8 * _USD,
        request_nano_usd=10_000_000,
    )


def test_a_flat_price_has_the_same_fall_backs() -> None:
    """So a request that writes a cache costs the same however its price was written."""
    flat, detailed = _band(_pinned()), _band(_pinned(tool_call_usd={"web_search": "0.01"}))

    assert flat == detailed


def test_a_step_bills_from_the_first_token_above_it() -> None:
    """And not yet the one at it."""
    price = _pinned(
        steps=(
            PriceStep(above_input_tokens=200_000, input_usd_per_mtok="4"),
            PriceStep(above_input_tokens=500_000, output_usd_per_mtok="20"),
        )
    )
    rates = [
        (b.input_nano_usd_per_mtok, b.output_nano_usd_per_mtok)
        for b in (_band(price, input_tokens=n) for n in (0, 200_000, 200_001, 500_001))
    ]

    assert rates == [(2 * _USD, 8 * _USD)] * 2 + [(4 * _USD, 8 * _USD), (4 * _USD, 20 * _USD)]


def test_a_step_that_raises_input_does_not_leave_cached_input_cheap() -> None:
    """What has input as its fall-back follows a new input price, unless the step states it."""
    step = PriceStep(above_input_tokens=1_000, input_usd_per_mtok="4")
    price = _pinned(cached_input_usd_per_mtok="0.2", steps=(step,))

    assert _band(price, input_tokens=1_001).cached_input_nano_usd_per_mtok == 4 * _USD


def test_a_tier_is_a_multiple_of_all_rates_and_steps() -> None:
    """But not of fees; what it states itself stands above that."""
    price = _pinned(
        request_usd="0.01",
        cached_input_usd_per_mtok="0.2",
        steps=(PriceStep(above_input_tokens=1_000, input_usd_per_mtok="4"),),
        tiers={"batch": TierPrice(multiplier="0.5", output_usd_per_mtok="3")},
    )
    low, high = _band(price, "batch"), _band(price, "batch", 1_001)

    assert (low.input_nano_usd_per_mtok, low.cached_input_nano_usd_per_mtok) == (_USD, _USD // 10)
    assert (low.output_nano_usd_per_mtok, low.request_nano_usd) == (3 * _USD, 10_000_000)
    assert high.input_nano_usd_per_mtok == 2 * _USD


def test_a_tier_with_rates_of_its_own_is_never_below_the_steps_of_the_default() -> None:
    """Nobody said what it bills above the step; the dearer of both is never too low."""
    price = _pinned(
        steps=(PriceStep(above_input_tokens=1_000, input_usd_per_mtok="6"),),
        tiers={"priority": TierPrice(input_usd_per_mtok="5", output_usd_per_mtok="20")},
    )

    assert _band(price, "priority").input_nano_usd_per_mtok == 5 * _USD
    assert _band(price, "priority", 1_001).input_nano_usd_per_mtok == 6 * _USD
    assert _band(price, "priority", 1_001).output_nano_usd_per_mtok == 20 * _USD


def test_a_tier_may_have_steps_of_its_own() -> None:
    """Then those of the default are not its own."""
    own = TierPrice(
        multiplier="2", steps=(PriceStep(above_input_tokens=50, output_usd_per_mtok="99"),)
    )
    price = _pinned(
        steps=(PriceStep(above_input_tokens=10, input_usd_per_mtok="6"),), tiers={"priority": own}
    )
    band = _band(price, "priority", 51)

    assert (band.input_nano_usd_per_mtok, band.output_nano_usd_per_mtok) == (4 * _USD, 99 * _USD)


def test_tiers_that_may_bill_who_names_none_are_priority_and_scale() -> None:
    """Unless the list says which."""
    tiers = {
        "flex": TierPrice(multiplier="0.5"),
        "priority": TierPrice(multiplier="2"),
        "ultrafast": TierPrice(multiplier="6"),
    }
    unsaid, said = _pinned(tiers=tiers), _pinned(tiers=tiers, auto_tiers=())

    assert unsaid.details is not None
    assert said.details is not None
    assert (unsaid.details.auto_tiers, said.details.auto_tiers) == (["priority"], [])
    assert tiers_of(bands_of(said)) == ["default", "flex", "priority", "ultrafast"]


def test_a_backend_may_multiply_the_price_of_tokens() -> None:
    """Its multiplier is pinned with the price; one of 1 is none."""
    model = Model(
        backends=(
            Target(backend="eu", price_multiplier="1.1"),
            Target(backend="us", price_multiplier="1"),
            Target(backend="any"),
        ),
        input_usd_per_mtok="2",
        output_usd_per_mtok="8",
    )
    price = prices_of("m", model, 1).at(0)

    assert price is not None
    assert price.details is not None
    assert price.details.uplifts == [Uplift(backend="eu", millionths=1_100_000)]


_STEP = PriceStep(above_input_tokens=10)


@pytest.mark.parametrize(
    ("stated", "what"),
    [
        ({"output_usd_per_mtok": None}, "give both"),
        ({"steps": (_STEP, _STEP)}, "ascend"),
        ({"tiers": {"standard": TierPrice(multiplier="2")}}, "another name"),
        ({"tiers": {"auto": TierPrice(multiplier="2")}}, "another name"),
        ({"tiers": {"flex": TierPrice(multiplier="0")}}, "no multiplier"),
        ({"tiers": {"flex": TierPrice(multiplier="11")}}, "no multiplier"),
        ({"input_usd_per_mtok": "0.000000001", "tiers": {"flex": TierPrice(multiplier="0.5")}}, "finer"),
        ({"auto_tiers": ("priority",)}, "does not state"),
        ({"request_usd": "10001"}, "above 10000"),
        ({"from_": "2026-02-30"}, "day"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_a_price_that_contradicts_itself_is_refused(stated: dict[str, Any], what: str) -> None:
    """With words, before anything is written."""
    with pytest.raises(ValueError, match=what):
        _pinned(**stated)


def test_two_entries_of_one_date_are_refused() -> None:
    """Nobody could say which is in force."""
    entry = Price(from_="2026-01-01", input_usd_per_mtok="1", output_usd_per_mtok="1")

    with pytest.raises(ValueError, match="same date"):
        price_list("m@1", (entry, entry), {})


def test_the_short_form_and_a_list_exclude_each_other() -> None:
    """One of them would be ignored."""
    entry = Price(input_usd_per_mtok="1", output_usd_per_mtok="1")
    model = Model(
        backends=(Target(backend="b1"),),
        input_usd_per_mtok="1",
        output_usd_per_mtok="1",
        prices=(entry,),
    )

    with pytest.raises(ValueError, match="not both"):
        prices_of("m", model, 1)
