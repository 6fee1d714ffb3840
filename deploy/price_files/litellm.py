"""LiteLLM's public price file, read into entries of a price list. Pure.

Format: https://docs.litellm.ai/docs/proxy/model_cost_map and ``model_prices_and_context_window.json`` of BerriAI/litellm.
Every amount is USD for one unit; a suffix says when it holds: ``_above_1hr`` (of a cache write), ``_above_200k_tokens``
(the whole request, above so much input), ``_batches``, ``_flex``, ``_priority`` and whatever else (a service tier).

Numbers are decimals from their text and never floats. What the file says about money and an entry has no place for
is named; nothing is dropped in silence.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from decimal import ROUND_UP, Decimal
from typing import Any, Final, TypeAlias

__all__ = ["Converted", "NoPrice", "convert", "read_file"]

Fields: TypeAlias = dict[str, Any]

_RATES: Final = {
    "input_cost_per_token": "input_usd_per_mtok",
    "output_cost_per_token": "output_usd_per_mtok",
    "cache_read_input_token_cost": "cached_input_usd_per_mtok",
    "cache_creation_input_token_cost": "cache_write_usd_per_mtok",
    "cache_creation_input_token_cost_above_1hr": "cache_write_1h_usd_per_mtok",
    "output_cost_per_reasoning_token": "reasoning_usd_per_mtok",
    "input_cost_per_audio_token": "audio_input_usd_per_mtok",
    "output_cost_per_audio_token": "audio_output_usd_per_mtok",
    "input_cost_per_image_token": "image_input_usd_per_mtok",
    "output_cost_per_image_token": "image_output_usd_per_mtok",
    "input_cost_per_request": "request_usd",
}
_KEY: Final = re.compile(
    rf"(?P<rate>{'|'.join(sorted(_RATES, key=len, reverse=True))})"
    r"(_above_(?P<thousands>[0-9]{1,6})k_tokens)?(_(?P<tier>[a-z]{1,32}))?"
)
_TIERS: Final = {"batches": "batch", "batch": "batch"}
_CALLS: Final = {
    "google_maps_grounding_cost_per_query": ("google_maps", 1),
    "file_search_cost_per_1k_calls": ("file_search", 1_000),
}
"""Kind of a hosted tool, and how many calls the amount is for."""
_SEARCH: Final = "search_context_cost_per_query"
_SIZES: Final = ("low", "medium", "high")
_LADDER: Final = "tiered_pricing"
_ALIAS: Final = "input_cost_per_token_cache_hit"
"""Of some entries, the same as ``cache_read_input_token_cost``."""
_MONEY: Final = re.compile(r"cost|price|pricing|uplift|multiplier")
_FACTORS: Final = "provider_specific_entry"
"""Of some entries multipliers of regions and modes, such as ``{"us": 1.1}``."""
_PLACES: Final = Decimal("1e-9")


class NoPrice(ValueError):
    """The file has no price per token for a model."""


@dataclass(slots=True)
class Converted:
    """An entry of a price list, and what has to be said about it."""

    entry: Fields
    unused: list[str] = field(default_factory=list)
    """Keys about money that an entry has no place for."""
    rounded: list[str] = field(default_factory=list)
    """Keys whose amount is finer than 1e-9 USD, and was rounded up."""


def read_file(text: str) -> dict[str, Fields]:
    """The models of the file. Raises ``ValueError`` when it is none."""
    models = json.loads(text, parse_float=Decimal, parse_int=Decimal, parse_constant=_no_number)
    if not isinstance(models, dict):
        raise ValueError("not an object of models")  # noqa: TRY004  # the file is wrong, not the caller
    return {name: said for name, said in models.items() if isinstance(said, dict)}


def convert(said: Fields) -> Converted:
    """The entry of one model. Raises ``NoPrice``, and ``ValueError`` for an amount that is none."""
    found = Converted({})
    for key, value in sorted(_laddered(said).items()):
        if value is None or not _is_read(found, key, value):
            continue
        found.unused.append(key)
    if _ALIAS in said and "cached_input_usd_per_mtok" not in found.entry:
        _put(found, found.entry, "cached_input_usd_per_mtok", _ALIAS, said[_ALIAS])
    if said.get("mode") == "embedding":
        found.entry.setdefault("output_usd_per_mtok", "0")
    if not {"input_usd_per_mtok", "output_usd_per_mtok"} <= found.entry.keys():
        raise NoPrice("it has no price per token of input and output")
    _order_steps(found.entry)
    for tier in found.entry.get("tiers", {}).values():
        _order_steps(tier)
    return found


def _is_read(found: Converted, key: str, value: Any) -> bool:
    """Whether the key is about money and was not understood; what is understood is put into the entry."""
    if match := _KEY.fullmatch(key):
        _put(found, _place(found.entry, match), _RATES[match["rate"]], key, value)
    elif key == _SEARCH and isinstance(value, dict):
        _put_searches(found, value)
    elif key in _CALLS:
        kind, calls = _CALLS[key]
        tools = found.entry.setdefault("tool_call_usd", {})
        _put(found, tools, kind, key, _amount(key, value) / calls)
    elif key == _FACTORS:
        return isinstance(value, dict) and any(isinstance(v, Decimal) for v in value.values())
    elif key not in (_LADDER, _ALIAS):
        return bool(_MONEY.search(key)) and not key.startswith("supports_")
    return False


def _place(entry: Fields, match: re.Match[str]) -> Fields:
    """Where in the entry a rate of this tier and step stands."""
    if tier := match["tier"]:
        entry = entry.setdefault("tiers", {}).setdefault(_TIERS.get(tier, tier), {})
    if thousands := match["thousands"]:
        entry = entry.setdefault("steps", {}).setdefault(int(thousands) * 1_000, {})
    return entry


def _laddered(said: Fields) -> Fields:
    """The fields with ``tiered_pricing`` as steps: its ranges of input bill a whole request, as above."""
    ladder = said.get(_LADDER)
    if not isinstance(ladder, list):
        return said
    fields = dict(said)
    for rung in ladder:
        if not isinstance(rung, dict) or not isinstance(rung.get("range"), list):
            raise ValueError(f"{_LADDER} has no ranges")  # noqa: TRY004  # the file is wrong, not the caller
        thousands, rest = divmod(int(_amount(_LADDER, rung["range"][0])), 1_000)
        if rest:
            raise ValueError(f"{_LADDER} has a range that begins within a thousand tokens")
        above = f"_above_{thousands}k_tokens" if thousands else ""
        rates = {key: value for key, value in rung.items() if key != "range"}
        fields |= {f"{key}{above}" if key in _RATES else key: v for key, v in rates.items()}
    return fields


def _put_searches(found: Converted, sizes: Fields) -> None:
    """By size where they differ; the family's own name is for requests that state none."""
    tools = found.entry.setdefault("tool_call_usd", {})
    amounts = {
        size: _amount(_SEARCH, sizes[f"search_context_size_{size}"])
        for size in _SIZES
        if f"search_context_size_{size}" in sizes
    }
    if not amounts:
        found.unused.append(_SEARCH)
        return
    _put(found, tools, "web_search", _SEARCH, max(amounts.values()))
    if len(set(amounts.values())) > 1:
        for size, amount in amounts.items():
            _put(found, tools, f"web_search:{size}", _SEARCH, amount)


def _put(found: Converted, place: Fields, name: str, key: str, value: Any) -> None:
    amount = _amount(key, value)
    if name.endswith("_per_mtok"):
        amount = amount.scaleb(6)
    if amount != (kept := amount.quantize(_PLACES, rounding=ROUND_UP)):
        found.rounded.append(key)
    text = f"{kept:f}"
    place[name] = text.rstrip("0").rstrip(".") if "." in text else text


def _amount(key: str, value: Any) -> Decimal:
    if not isinstance(value, Decimal) or value < 0:
        raise ValueError(f"{key} is {value!r}, which is no amount")
    return value


def _order_steps(rates: Fields) -> None:
    steps = rates.pop("steps", None)
    if steps:
        rates["steps"] = [{"above_input_tokens": above, **steps[above]} for above in sorted(steps)]


def _no_number(text: str) -> Any:
    raise ValueError(f"{text} is no number")
