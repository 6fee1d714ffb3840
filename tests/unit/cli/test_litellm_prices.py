"""LiteLLM's price file: what of it becomes a price list, exactly, and what is said of the rest.

The fixture is a piece of the real file (``tests/support/price_files``).
"""

from __future__ import annotations

import json
import re
from decimal import Decimal
from fractions import Fraction
from typing import Any

import msgspec
import pytest

from deploy.desired_state.document import parse_desired_state, reference_problems
from deploy.price_files.changes import changed, rows_of, with_entry
from deploy.price_files.litellm import NoPrice, convert, read_file
from schemas.config_state import prices_of
from schemas.entities import Model
from schemas.events import PinnedPrice
from schemas.pricing.bands import band_of, bands_of
from schemas.pricing.cost import cost
from schemas.pricing.counts import TokenCounts
from tests.support.calls_in_code import ROOT

_FILE = ROOT / "tests" / "support" / "price_files" / "model_prices.json"
_LISTED = read_file(_FILE.read_text(encoding="utf-8"))


def _pinned(name: str) -> PinnedPrice:
    """The price of a model of the file."""
    model = {"backends": [{"backend": "b1"}], "prices": [convert(_LISTED[name]).entry]}
    price = prices_of("m", _model(model), 1).at(0)
    assert price is not None
    return price


def _model(settings: dict[str, Any]) -> Model:
    return msgspec.convert(settings, Model)


def _priced() -> list[str]:
    names = []
    for name, said in _LISTED.items():
        try:
            convert(said)
        except NoPrice:
            continue
        names.append(name)
    return names


@pytest.mark.parametrize("name", _priced())
def test_every_rate_of_the_file_is_billed_to_the_nano_usd(name: str) -> None:
    """By the file's own decimals, read by another reader, for a million tokens of each kind in each tier."""
    said = json.loads(_FILE.read_text(encoding="utf-8"), parse_float=Fraction, parse_int=Fraction)[
        name
    ]
    if "tiered_pricing" in said:
        said |= said["tiered_pricing"][0]
    kinds = {
        "input_cost_per_token": TokenCounts(10_000, 0),
        "output_cost_per_token": TokenCounts(0, 10_000),
        "cache_read_input_token_cost": TokenCounts(10_000, 0, cached_tokens=10_000),
        "cache_creation_input_token_cost": TokenCounts(10_000, 0, cache_write_tokens=10_000),
        "cache_creation_input_token_cost_above_1hr": TokenCounts(10_000, 0, cache_write_1h_tokens=10_000),
        "input_cost_per_audio_token": TokenCounts(10_000, 0, audio_input_tokens=10_000),
        "output_cost_per_audio_token": TokenCounts(0, 10_000, audio_output_tokens=10_000),
        "output_cost_per_reasoning_token": TokenCounts(0, 10_000, reasoning_tokens=10_000),
        "output_cost_per_image_token": TokenCounts(0, 10_000, image_output_tokens=10_000),
    }  # fmt: skip
    fee = said.get("input_cost_per_request", 0)

    for suffix, tier in (
        ("", None),
        ("_flex", "flex"),
        ("_priority", "priority"),
        ("_batches", "batch"),
    ):
        for key, counts in kinds.items():
            if f"{key}{suffix}" in said:
                expected = (10_000 * said[f"{key}{suffix}"] + fee) * 10**9
                assert cost(_pinned(name), counts, tier) == expected, f"{key}{suffix}"


def test_long_contexts_are_steps_of_each_tier() -> None:
    """``_above_272k_tokens`` of the whole request, by the tier's own amounts."""
    bands = bands_of(_pinned("gpt-6-luna"))
    rates = [
        (band.input_nano_usd_per_mtok, band.output_nano_usd_per_mtok)
        for band in (
            band_of(bands, tier, tokens)
            for tier in ("default", "priority")
            for tokens in (272_000, 272_001)
        )
    ]

    assert rates == [
        (100_000_000, 500_000_000),
        (200_000_000, 750_000_000),
        (200_000_000, 1_000_000_000),
        (400_000_000, 1_500_000_000),
    ]


def test_a_ladder_of_ranges_is_steps_too() -> None:
    """``tiered_pricing``."""
    entry = convert(_LISTED["dashscope/qwen-flash"]).entry

    assert entry["input_usd_per_mtok"] == "0.05"
    assert entry["steps"] == [
        {"above_input_tokens": 256_000, "input_usd_per_mtok": "0.25", "output_usd_per_mtok": "2"}
    ]


def test_a_search_has_a_price_by_its_size_where_sizes_differ() -> None:
    """And one for requests that state none: the dearest."""
    sizes = convert(_LISTED["perplexity/sonar-pro"]).entry["tool_call_usd"]
    same = convert(_LISTED["gemini-2.5-flash"]).entry["tool_call_usd"]

    assert sizes == {
        "web_search": "0.014",
        "web_search:low": "0.006",
        "web_search:medium": "0.01",
        "web_search:high": "0.014",
    }
    assert same == {"web_search": "0.035", "google_maps": "0.025"}


def test_what_an_entry_has_no_place_for_is_named() -> None:
    """Every key about money; features are none."""
    luna, haiku = convert(_LISTED["gpt-6-luna"]), convert(_LISTED["claude-haiku-5-5"])

    assert "regional_processing_uplift_multiplier_eu" in luna.unused
    assert "cache_creation_input_token_cost_above_12hr_flex" in luna.unused
    assert haiku.unused == ["provider_specific_entry"]
    assert "off_peak_pricing" in convert(_LISTED["deepseek-flash"]).unused


def test_an_amount_finer_than_a_nano_usd_is_rounded_up_and_named() -> None:
    """Never too low; nothing passed through a float."""
    flat = {"input_cost_per_token": Decimal("1.0000000000000001e-06"), "output_cost_per_token": Decimal("1e-15")}  # fmt: skip
    found = convert(flat)

    assert found.entry["input_usd_per_mtok"] == "1.000000001"
    assert found.rounded == ["input_cost_per_token"]
    assert found.entry["output_usd_per_mtok"] == "0.000000001"


@pytest.mark.parametrize("name", ["amazon.nova-canvas-v1:0"])
def test_a_model_without_a_price_per_token_has_none(name: str) -> None:
    """It is not taken for free."""
    with pytest.raises(NoPrice):
        convert(_LISTED[name])


@pytest.mark.parametrize(
    "text", ["[]", "{", '{"m": {"input_cost_per_token": NaN}}', '{"m": {"input_cost_per_token": Infinity}}']
)  # fmt: skip
def test_what_is_no_price_file_is_refused(text: str) -> None:
    """With words, not with a traceback."""
    with pytest.raises(ValueError, match=r"object|number|Expecting"):
        read_file(text)


@pytest.mark.parametrize("amount", ['"1"', "-1e-6", "true"])
def test_what_is_no_amount_is_refused(amount: str) -> None:
    """Rather than guessed at."""
    listed = read_file(f'{{"m": {{"input_cost_per_token": {amount}}}}}')

    with pytest.raises(ValueError, match="no amount"):
        convert(listed["m"])


def test_an_entry_with_a_date_is_added_and_one_without_replaces_the_list() -> None:
    """The short form becomes the entry before it."""
    model = {"backends": [{"backend": "b"}], "input_usd_per_mtok": "1", "output_usd_per_mtok": "2"}
    entry = {"input_usd_per_mtok": "3", "output_usd_per_mtok": "4"}
    dated = with_entry(model, entry, "2026-12-01")

    assert dated["prices"] == [
        {"input_usd_per_mtok": "1", "output_usd_per_mtok": "2"},
        {"from": "2026-12-01", **entry},
    ]
    assert with_entry(dated, entry, "2026-12-01") == dated
    assert with_entry(dated, entry, None) == {"backends": model["backends"], "prices": [entry]}


def test_a_change_is_told_rate_by_rate() -> None:
    """As it bills, so that a fall-back that moves is seen as well."""
    model = {"backends": [{"backend": "b"}], "input_usd_per_mtok": "1", "output_usd_per_mtok": "2"}
    new = with_entry(model, {"input_usd_per_mtok": "1", "output_usd_per_mtok": "3"}, None)

    assert changed(rows_of("m", model), rows_of("m", new)) == [
        ("default output", "2", "3"),
        ("default reasoning", "2", "3"),
    ]


def test_the_price_lists_of_the_page_are_valid() -> None:
    """As they stand in ``docs/prices.md``, beside backends of their names."""
    page = (ROOT / "docs" / "prices.md").read_text(encoding="utf-8")
    examples = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    backends = "".join(f"  {name}: {{url: http://127.0.0.1:1}}\n" for name in ("gpu-1", "us", "eu"))

    for example in examples:
        state = parse_desired_state(f"backends:\n{backends}{example}")
        assert (state.problems, reference_problems(state.entities)) == ((), [])
    assert len(examples) > 1
