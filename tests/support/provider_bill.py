"""A provider's billing department: invoices by the price rules of ``docs/prices.md``, in fractions of USD.

Independent of the gateway: it imports nothing of it. It reads a model as an operator writes it (JSON), and knows
how many tokens of each kind it really made; the gateway only sees what its answer says.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

_CHEAP = ("flex", "batch")
_SAME = {"standard": "default", "on_demand": "default", None: "default"}
_NANO = 10**9

Sheet = dict[str, Fraction]
"""USD per million tokens by kind, and ``request`` in USD."""


@dataclass(frozen=True)
class Use:
    """What one answer took; parts are counts of tokens that are of that kind, perhaps of two."""

    input: int
    output: int
    input_parts: dict[str, int] = field(default_factory=dict)
    """Of cached_input, cache_write, cache_write_1h, audio_input, image_input."""
    output_parts: dict[str, int] = field(default_factory=dict)
    """Of reasoning, audio_output, image_output."""
    calls: dict[str, int] = field(default_factory=dict)


def invoice_nano_usd(
    model: dict[str, Any], day: str, tier: str | None, backend: str, use: Use
) -> int:
    """What the model costs on that day in that service tier, at that backend; rounded once, half-even."""
    entry = in_force(model, day)
    name = _SAME.get(tier, tier)
    stated = ["default", *entry.get("tiers", {})]
    unknown = ["default"] if name in _CHEAP else stated
    billed = [str(name)] if name in stated else unknown
    total = max(_total(model, entry, each, backend, use) for each in billed)
    return round(total * _NANO)


def in_force(model: dict[str, Any], day: str) -> dict[str, Any]:
    if not model.get("prices"):
        return {name: value for name, value in model.items() if name.endswith("_usd_per_mtok")}
    begun: list[dict[str, Any]] = [
        entry for entry in model["prices"] if entry.get("from", "") <= day
    ]
    return max(begun, key=lambda entry: str(entry.get("from", "")))


def _total(
    model: dict[str, Any], entry: dict[str, Any], tier: str, backend: str, use: Use
) -> Fraction:
    sheet = _completed(_sheet(entry, tier, use.input))
    tokens = _side(sheet, "input", use.input, use.input_parts)
    tokens += _side(sheet, "output", use.output, use.output_parts)
    (target,) = (each for each in model["backends"] if each["backend"] == backend)
    uplift = Fraction(target.get("price_multiplier", "1"))
    return tokens / 10**6 * uplift + sheet["request"] + _calls(entry, use.calls)


def _side(sheet: Sheet, plain: str, total: int, parts: dict[str, int]) -> Fraction:
    """Tokens one price at a time, the dearest first, until all are billed."""
    ladder = sorted(((sheet[kind], count) for kind, count in parts.items()), reverse=True)
    amount, billed = Fraction(0), 0
    for rate, count in [*ladder, (sheet[plain], total)]:
        now = max(0, min(count, total - billed))
        amount, billed = amount + rate * now, billed + now
    return amount


def _calls(entry: dict[str, Any], calls: dict[str, int]) -> Fraction:
    prices = {kind: Fraction(usd) for kind, usd in entry.get("tool_call_usd", {}).items()}
    amount = Fraction(0)
    for kind, count in calls.items():
        family = kind.split(":")[0]
        amount += count * (prices[kind] if kind in prices else prices[family])
    return amount


def _sheet(entry: dict[str, Any], tier: str, tokens: int) -> Sheet:
    """What is stated of the tier for a request with so much input."""
    passed = [step for step in entry.get("steps", ()) if tokens > step["above_input_tokens"]]
    if tier == "default":
        return _stacked(_stated(entry), passed)
    own = entry["tiers"][tier]
    factor = Fraction(own.get("multiplier", "1"))
    if own.get("steps"):
        base = _multiplied(_stated(entry), factor)
        mine = [step for step in own["steps"] if tokens > step["above_input_tokens"]]
        return _stacked(_laid(base, _stated(own)), mine)
    base = _multiplied(_stacked(_stated(entry), passed), factor)
    said = _stated(own)
    if passed:
        said = {kind: max(usd, base.get(kind, Fraction(0))) for kind, usd in said.items()}
    return _laid(base, said)


def _stated(rates: dict[str, Any]) -> Sheet:
    sheet = {
        name.removesuffix("_usd_per_mtok"): Fraction(usd)
        for name, usd in rates.items()
        if name.endswith("_usd_per_mtok") and usd is not None
    }
    return sheet | ({"request": Fraction(rates["request_usd"])} if "request_usd" in rates else {})


def _stacked(base: Sheet, steps: list[dict[str, Any]]) -> Sheet:
    for step in steps:
        base = _laid(base, _stated(step))
    return base


def _laid(below: Sheet, above: Sheet) -> Sheet:
    """What is above counts; kinds that go with input or output do not keep a price from below a new one."""
    kept = dict(below)
    if "input" in above:
        for kind in ("cached_input", "cache_write", "cache_write_1h", "image_input"):
            kept.pop(kind, None)
    if "output" in above:
        kept.pop("reasoning", None)
    return {**kept, **above}


def _multiplied(sheet: Sheet, factor: Fraction) -> Sheet:
    return {kind: usd if kind == "request" else usd * factor for kind, usd in sheet.items()}


def _completed(sheet: Sheet) -> Sheet:
    """With what is not stated: as input, as output, writes dearer than input, rounded up to a nano-USD."""
    done = {"request": Fraction(0), **sheet}
    write = Fraction(math.ceil(done["input"] * Fraction(5, 4) * _NANO), _NANO)
    done.setdefault("cached_input", done["input"])
    done.setdefault("image_input", done["input"])
    done.setdefault("audio_input", done["input"])
    done.setdefault("cache_write", write)
    done.setdefault("cache_write_1h", max(2 * done["input"], done["cache_write"]))
    for kind in ("reasoning", "audio_output", "image_output"):
        done.setdefault(kind, done["output"])
    return done
