"""What a new price list changes, rate by rate, and a price list as rows. Pure. Rates are USD per million tokens."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from schemas.config_state import prices_of
from schemas.entities import Model
from schemas.events import PinnedPrice
from schemas.money import usd
from schemas.pricing.bands import bands_of

__all__ = ["COLUMNS", "changed", "rows_of", "with_entry"]

_SHORT: Final = ("input_usd_per_mtok", "output_usd_per_mtok", "cached_input_usd_per_mtok")
_RATES: Final = {
    "input_nano_usd_per_mtok": "input",
    "cached_input_nano_usd_per_mtok": "cached",
    "cache_write_nano_usd_per_mtok": "write",
    "cache_write_1h_nano_usd_per_mtok": "write_1h",
    "audio_input_nano_usd_per_mtok": "audio_in",
    "image_input_nano_usd_per_mtok": "image_in",
    "output_nano_usd_per_mtok": "output",
    "reasoning_nano_usd_per_mtok": "reasoning",
    "audio_output_nano_usd_per_mtok": "audio_out",
    "image_output_nano_usd_per_mtok": "image_out",
    "request_nano_usd": "request",
}
COLUMNS: Final = ("from", "tier", "above", *_RATES.values())
"""Of the rows of a price list; rates as billed, fall-backs applied."""


def with_entry(
    model: Mapping[str, Any], entry: Mapping[str, Any], day: str | None
) -> dict[str, Any]:
    """The model's settings with the entry: in place of its list, or in it from that day on.

    The short form becomes an entry without a date.
    """
    short = {name: model[name] for name in _SHORT if model.get(name) is not None}
    settings = {name: value for name, value in model.items() if name not in _SHORT}
    if day is None:
        return settings | {"prices": [dict(entry)]}
    before = model.get("prices") or ([short] if short else [])
    kept = [each for each in before if each.get("from") != day]
    return settings | {"prices": [*kept, {"from": day, **entry}]}


def rows_of(name: str, model: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The price list of a model as the admin API shows it, one row for each band, the newest entry first.

    Raises ``ValueError`` for one that is none.
    """
    fields = {field.name for field in msgspec.structs.fields(Model)}
    settings = {key: value for key, value in model.items() if key in fields}
    try:
        entity = msgspec.convert(settings, Model)
    except msgspec.ValidationError as error:
        raise ValueError(str(error)) from error
    listed = prices_of(name, entity, int(model.get("version", 0)))
    return [row for begin_ms, price in listed.entries for row in _rows(begin_ms, price)]


def _rows(begin_ms: int, price: PinnedPrice) -> Iterator[dict[str, Any]]:
    day = f"{datetime.fromtimestamp(begin_ms / 1_000, UTC):%Y-%m-%d}" if begin_ms else "-"
    for band in bands_of(price):
        rates = {name: _text(getattr(band, field)) for field, name in _RATES.items()}
        fee = rates if band.request_nano_usd else rates | {"request": None}
        yield {"from": day, "tier": band.tier, "above": band.above_input_tokens} | fee
    for tool in price.details.tools if price.details else []:
        amount = _text(tool.call_nano_usd)
        yield {"from": day, "tier": f"tool {tool.kind}", "above": 0, "request": amount}


def changed(
    old: list[dict[str, Any]], new: list[dict[str, Any]]
) -> list[tuple[str, str | None, str | None]]:
    """What differs: the place of a rate, what it is, and what it becomes; ``None`` where it is not stated."""
    before, after = _by_place(old), _by_place(new)
    return [
        (place, before.get(place), after.get(place))
        for place in dict.fromkeys([*before, *after])
        if before.get(place) != after.get(place)
    ]


def _by_place(rows: list[dict[str, Any]]) -> dict[str, str | None]:
    placed = {}
    for row in rows:
        where = row["tier"] if row["from"] == "-" else f"from {row['from']} {row['tier']}"
        above = f" above {row['above']}" if row["above"] else ""
        for name in _RATES.values():
            if row.get(name) is not None:
                placed[f"{where}{above} {name}"] = row[name]
    return placed


def _text(nano_usd: int | None) -> str | None:
    return None if nano_usd is None else usd(nano_usd).rstrip("0").rstrip(".")
