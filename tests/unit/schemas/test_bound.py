"""The hold: never below the cost of any use that a request can come to."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.events import PinnedPrice, Reach
from schemas.pricing.bands import MILLION
from schemas.pricing.bound import bound, unpriced
from schemas.pricing.cost import cost
from schemas.pricing.counts import TokenCounts
from schemas.pricing.entries import Price, PriceStep, TierPrice
from schemas.pricing.price_list import price_list
from schemas.pricing.tiers import named, serving

_RATES = (
    "cached_input", "cache_write", "cache_write_1h", "reasoning",
    "audio_input", "audio_output", "image_input", "image_output",
)  # fmt: skip
_USD = st.integers(0, 40_000).map(lambda milli: f"{milli // 1000}.{milli % 1000:03d}")
_KINDS = ["web_search:low", "web_search:high", "file_search"]


@st.composite
def _prices(draw: st.DrawFn) -> PinnedPrice:
    """Any list of one entry, steps in any direction."""

    def rates() -> dict[str, Any]:
        names = draw(st.sets(st.sampled_from(_RATES)))
        stated: dict[str, Any] = {f"{name}_usd_per_mtok": draw(_USD) for name in names}
        return stated | {"input_usd_per_mtok": draw(_USD), "output_usd_per_mtok": draw(_USD)}

    aboves = sorted(draw(st.sets(st.sampled_from((100, 1_000, 5_000)))))
    steps = tuple(PriceStep(above_input_tokens=above, **rates()) for above in aboves)
    own: dict[str, Any] = rates() if draw(st.booleans()) else {"multiplier": "2.5"}
    tiers = {"priority": TierPrice(**own), "flex": TierPrice(multiplier="0.5")}
    entry = Price(
        **rates(),
        request_usd=draw(_USD),
        steps=steps,
        tiers=tiers if draw(st.booleans()) else {},
        tool_call_usd={kind: draw(_USD) for kind in ("web_search", "web_search:high")},
    )
    uplift = draw(st.sampled_from([None, "1.1", "0.9"]))
    price = price_list("m@1", (entry,), {"b1": uplift}).at(0)
    assert price is not None
    return price


_REACHES = st.builds(
    Reach,
    service_tier=st.sampled_from([None, "auto", "default", "flex", "priority"]),
    cache_writes=st.booleans(),
    cache_writes_1h=st.booleans(),
    audio_input_tokens_bound=st.sampled_from([0, 50, 10_000]),
    image_input_tokens_bound=st.sampled_from([0, 50, 10_000]),
    audio_output=st.booleans(),
    image_output=st.booleans(),
    tool_calls_bound=st.integers(0, 3),
    tool_kinds=st.lists(st.sampled_from(_KINDS[:2]), unique=True),
)


def _use(draw: Any, reach: Reach, most_input: int, most_output: int) -> TokenCounts:
    """Any counts within the bounds; parts may overlap."""
    input_tokens, output_tokens = (
        draw(st.integers(0, most_input)),
        draw(st.integers(0, most_output)),
    )

    def part(of: int, *, can: bool = True) -> int:
        return int(draw(st.integers(0, of))) if can else 0

    calls = draw(st.integers(0, reach.tool_calls_bound))
    return TokenCounts(
        input_tokens,
        output_tokens,
        cached_tokens=part(input_tokens),
        reasoning_tokens=part(output_tokens),
        cache_write_tokens=part(input_tokens, can=reach.cache_writes),
        cache_write_1h_tokens=part(input_tokens, can=reach.cache_writes_1h),
        audio_input_tokens=part(min(input_tokens, reach.audio_input_tokens_bound)),
        image_input_tokens=part(min(input_tokens, reach.image_input_tokens_bound)),
        audio_output_tokens=part(output_tokens, can=reach.audio_output),
        image_output_tokens=part(output_tokens, can=reach.image_output),
        tool_calls=calls,
        tool_kinds=((reach.tool_kinds[0], calls),) if reach.tool_kinds else (),
    )


@given(st.data(), _prices(), _REACHES, st.integers(0, 7_000), st.integers(0, 7_000))
def test_the_hold_covers_every_use_within_the_reach(
    data: st.DataObject, price: PinnedPrice, reach: Reach, most_input: int, most_output: int
) -> None:
    """Whatever tier of those that can bill does, at whichever backend."""
    used = _use(data.draw, reach, most_input, most_output)
    asked = named(reach.service_tier)
    told = [None, "default", asked] if asked else [None, "default", "priority"]
    held = bound(price, reach, most_input, most_output)

    for tier in told:
        for backend in ("b1", "b2"):
            assert cost(price, used, serving(tier, asked), backend) <= held


@given(
    st.tuples(_USD, _USD),
    st.sampled_from(["0.5", "0.25", "1"]),
    st.sampled_from([None, "1.1"]),
    st.sampled_from([None, "default", "flex"]),
    st.tuples(st.integers(0, 7_000), st.integers(0, 7_000)),
)
def test_flex_holds_what_it_bills_at_most_and_no_more(
    rates: tuple[str, str],
    multiplier: str,
    uplift: str | None,
    told: str | None,
    tokens: tuple[int, int],
) -> None:
    """Of text that uses its whole bound, whatever the backend calls the tier: not the price of the default."""
    tiers = {"flex": TierPrice(multiplier=multiplier)}
    of_input, of_output = rates
    entry = Price(input_usd_per_mtok=of_input, output_usd_per_mtok=of_output, tiers=tiers)
    price = price_list("m@1", (entry,), {"b1": uplift}).at(0)
    assert price is not None
    billed = cost(price, TokenCounts(*tokens), serving(told, "flex"), "b1")

    assert bound(price, Reach(service_tier="flex"), *tokens) == billed


@given(_prices(), _REACHES, st.integers(0, 7_000), st.integers(0, 7_000), st.integers(0, 100))
def test_the_hold_never_falls_as_a_bound_grows(
    price: PinnedPrice, reach: Reach, most_input: int, most_output: int, more: int
) -> None:
    """Also where a step is cheaper than what is below it."""
    held = bound(price, reach, most_input, most_output)

    assert held <= bound(price, reach, most_input + more, most_output)
    assert held <= bound(price, reach, most_input, most_output + more)


def _flat() -> PinnedPrice:
    return PinnedPrice(
        version="m@1",
        input_nano_usd_per_mtok=2_000 * MILLION,
        cached_input_nano_usd_per_mtok=500 * MILLION,
        output_nano_usd_per_mtok=6_000 * MILLION,
    )


def test_a_request_that_writes_a_cache_holds_what_a_write_costs() -> None:
    """1.25 times input, or twice for an hour, where the price says nothing."""
    held = [
        bound(_flat(), reach, 1_000, 0)
        for reach in (None, Reach(cache_writes=True), Reach(cache_writes_1h=True))
    ]

    assert held == [2_000_000, 2_500_000, 4_000_000]


@pytest.mark.parametrize(
    ("reach", "missing"),
    [
        (None, []),
        (Reach(service_tier="auto", cache_writes=True, image_input_tokens_bound=9), []),
        (Reach(service_tier="flex"), []),
        (Reach(service_tier="priority"), ["service tier priority"]),
        (Reach(audio_input_tokens_bound=1), ["audio input"]),
        (Reach(audio_output=True, image_output=True), ["audio output", "image output"]),
        (Reach(tool_calls_bound=1, tool_kinds=["web_search"]), ["tool web_search"]),
        (Reach(tool_calls_bound=1), ["hosted tools"]),
    ],
)
def test_what_a_price_does_not_state_is_named(reach: Reach | None, missing: list[str]) -> None:
    """Of a flat price; text of every kind and pictures among the input always have one."""
    assert unpriced(_flat(), reach) == missing


@given(_prices())
def test_what_was_found_priced_is_never_named(price: PinnedPrice) -> None:
    """A kind is priced by its own name, or by its family before the colon."""
    reach = Reach(tool_calls_bound=1, tool_kinds=["web_search:low", "web_search:high"])

    assert unpriced(price, reach) == []
    assert unpriced(price, Reach(tool_kinds=["file_search"])) == ["tool file_search"]
