"""Random price lists, and requests that make the most of them: what a provider with every dimension may do. Seeded."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

from schemas.events import Reach
from tests.support.provider_bill import Use

DAYS = ("2026-10-31", "2026-11-01", "2026-11-30", "2026-12-01", "2027-02-03")
_KINDS = (
    "cached_input", "cache_write", "cache_write_1h", "reasoning",
    "audio_input", "audio_output", "image_input", "image_output",
)  # fmt: skip
_TOOLS = {"web_search": "web_search_requests", "x_search": "x_search_calls"}
_ABOVES = (200, 32_000, 200_000, 272_000)


@dataclass(frozen=True)
class Ask:
    """A request: when it comes, what it may reach, its bounds."""

    day: str
    reach: Reach | None
    input_bound: int
    output_bound: int


@dataclass(frozen=True)
class Served:
    """What became of it at the provider: who served it, in which tier, what it took and what the answer says."""

    backend: str
    billed_tier: str | None
    told_tier: str | None
    use: Use
    usage: dict[str, Any]


def random_model(rng: random.Random) -> dict[str, Any]:
    """A model as an operator writes it."""
    backends = [
        {"backend": name} | ({"price_multiplier": multiplier} if multiplier else {})
        for name, multiplier in zip(
            ("b1", "b2", "b3"), rng.choices((None, "1", "1.1", "0.95", "2.25"), k=3), strict=True
        )
    ]
    if rng.random() < 0.1:
        rates = {"input_usd_per_mtok": _usd(rng), "output_usd_per_mtok": _usd(rng)}
        more = {"cached_input_usd_per_mtok": _usd(rng)} if rng.random() < 0.7 else {}
        return {"backends": backends, **rates, **more}
    dates = [None, *rng.sample(("2026-11-01", "2026-12-01"), rng.randint(0, 2))]
    return {"backends": backends, "prices": [_entry(rng, date) for date in dates]}


def _usd(rng: random.Random) -> str:
    """Per million tokens: nothing, cheap, usual or dear, of up to nine places."""
    places = rng.choice((0, 2, 3, 6))
    return f"{rng.choice((0, 0.1, 1, 5, 60)) * rng.random():.{places}f}"


def _rates(rng: random.Random, often: float, *, whole: bool) -> dict[str, str]:
    rates = {f"{kind}_usd_per_mtok": _usd(rng) for kind in _KINDS if rng.random() < often}
    for kind in ("input", "output"):
        if whole or rng.random() < often:
            rates[f"{kind}_usd_per_mtok"] = _usd(rng)
    return rates | ({"request_usd": f"0.{rng.randint(0, 99):03d}"} if rng.random() < 0.3 else {})


def _steps(rng: random.Random) -> list[dict[str, Any]]:
    aboves = sorted(rng.sample(_ABOVES, rng.choice((0, 0, 1, 1, 2, 3))))
    return [{"above_input_tokens": above, **_rates(rng, 0.6, whole=False)} for above in aboves]


def _entry(rng: random.Random, date: str | None) -> dict[str, Any]:
    tiers = {
        tier: _tier(rng)
        for tier in ("flex", "batch", "priority", "scale", "ultrafast")
        if rng.random() < 0.4
    }
    tools = {kind: f"0.0{rng.randint(0, 40):02d}" for kind in _TOOLS if rng.random() < 0.7}
    if "web_search" in tools and rng.random() < 0.5:
        tools["web_search:high"] = f"0.0{rng.randint(0, 90):02d}"
    entry: dict[str, Any] = _rates(rng, 0.5, whole=True)
    entry |= {"steps": _steps(rng), "tiers": tiers, "tool_call_usd": tools}
    if date is not None:
        entry["from"] = date
    if rng.random() < 0.3:
        entry["auto_tiers"] = [tier for tier in tiers if rng.random() < 0.5]
    return entry


def _tier(rng: random.Random) -> dict[str, Any]:
    own: dict[str, Any] = {}
    if rng.random() < 0.5:
        own["multiplier"] = rng.choice(("0.5", "1.75", "2", "10"))
    if rng.random() < 0.7:
        own |= _rates(rng, 0.4, whole=rng.random() < 0.7)
    return own | {"steps": _steps(rng) if rng.random() < 0.3 else []}


def random_ask(rng: random.Random, day: str, entry: dict[str, Any]) -> Ask:
    """A request; half of them ask for nothing special, and few for what has no price."""
    bounds = [rng.choice((1, 50, 201, 4_096, 40_000, 300_000, 1_000_000)) for _ in range(2)]
    if rng.random() < 0.4:
        return Ask(day, None, *bounds)
    reckless = rng.random() < 0.05
    stated = [*entry.get("tiers", ()), *(("priority", "scale") if reckless else ())]
    tools = [*entry.get("tool_call_usd", ()), *(_TOOLS if reckless else ())]
    # Of two searches an answer does not tell which was made.
    kinds = {kind for kind in tools if rng.random() < 0.3}
    if "web_search:high" in kinds and "web_search" in kinds:
        kinds.remove("web_search")

    def can(kind: str) -> bool:
        return reckless or f"{kind}_usd_per_mtok" in entry

    reach = Reach(
        service_tier=rng.choice((None, "auto", "default", "flex", "batch", *stated)),
        cache_writes=rng.random() < 0.4,
        cache_writes_1h=rng.random() < 0.3,
        audio_input_tokens_bound=rng.choice((0, 100, 10_000)) if can("audio_input") else 0,
        image_input_tokens_bound=rng.choice((0, 0, 100, 10_000)),
        audio_output=can("audio_output") and rng.random() < 0.5,
        image_output=can("image_output") and rng.random() < 0.5,
        tool_calls_bound=rng.randint(1, 5) if kinds else 0,
        tool_kinds=sorted(kinds),
    )  # fmt: skip
    return Ask(day, reach, *bounds)


def serve(rng: random.Random, ask: Ask, model: dict[str, Any], entry: dict[str, Any]) -> Served:
    """Any use within what was asked for, often the whole bound, in any tier that may serve it."""
    reach = ask.reach or Reach()
    use = Use(*_parts(rng, ask, reach), calls=_called(rng, reach))
    billed = rng.choice(_tiers(reach.service_tier, entry))
    is_silent = billed == (reach.service_tier or "default") or (
        billed == "default" and reach.service_tier in (None, "auto", "flex")
    )
    backend = rng.choice(model["backends"])["backend"]
    # One that knows no tiers calls flex what it calls everything.
    names = (
        billed,
        billed.upper(),
        *(("default",) if billed == reach.service_tier == "flex" else ()),
    )
    told = None if is_silent and rng.random() < 0.3 else rng.choice(names)
    told = {"DEFAULT": "standard"}.get(told or "", told and told.lower())
    return Served(backend, billed, told, use, _usage(use))


def _tiers(asked: str | None, entry: dict[str, Any]) -> list[str]:
    """Who may bill: the tier that was named, or the default; and where none was, what a project is set to. Flex bills as
    flex, and no provider is asked for it where it has no price."""
    tiers = entry.get("tiers", {})
    if asked in (None, "auto") or (asked == "flex" and asked not in tiers):
        usual = [tier for tier in tiers if tier in ("priority", "scale")]
        return ["default", *entry.get("auto_tiers", usual)]
    if asked == "flex":
        return ["flex"]
    return ["default", asked] if asked in tiers or asked == "batch" else ["default"]


def _amount(rng: random.Random, most: int) -> int:
    return most if rng.random() < 0.3 else rng.randint(0, most)


def _parts(
    rng: random.Random, ask: Ask, reach: Reach
) -> tuple[int, int, dict[str, int], dict[str, int]]:
    given, made = max(1, _amount(rng, ask.input_bound)), _amount(rng, ask.output_bound)
    left = given
    of_input: dict[str, int] = {}
    for kind, most in (
        ("cached_input", given),
        ("cache_write", given if reach.cache_writes else 0),
        ("cache_write_1h", given if reach.cache_writes_1h else 0),
    ):
        of_input[kind] = _amount(rng, min(most, left)) if rng.random() < 0.6 else 0
        left -= of_input[kind]
    # Media may be read from a cache as well: then a token is of two kinds.
    of_media = given if rng.random() < 0.2 else left
    for kind, most in (
        ("audio_input", reach.audio_input_tokens_bound),
        ("image_input", reach.image_input_tokens_bound),
    ):
        of_input[kind] = _amount(rng, min(most, of_media))
        of_media -= of_input[kind]
    left = made
    of_output: dict[str, int] = {}
    for kind, can in (
        ("reasoning", True),
        ("audio_output", reach.audio_output),
        ("image_output", reach.image_output),
    ):
        of_output[kind] = _amount(rng, left) if can and rng.random() < 0.6 else 0
        left -= of_output[kind]
    return given, made, of_input, of_output


def _called(rng: random.Random, reach: Reach) -> dict[str, int]:
    left, calls = rng.randint(0, reach.tool_calls_bound), {}
    for kind in reach.tool_kinds:
        calls[kind] = rng.randint(0, left)
        left -= calls[kind]
    return calls


def _usage(use: Use) -> dict[str, Any]:
    """As OpenAI's chat completions say it; what that has no name for as Anthropic and xAI do."""
    of_input, of_output = use.input_parts, use.output_parts
    written = of_input["cache_write"] + of_input["cache_write_1h"]
    calls: dict[str, int] = {}
    for kind, count in use.calls.items():
        name = _TOOLS[kind.split(":")[0]]
        calls[name] = calls.get(name, 0) + count
    return {
        "prompt_tokens": use.input,
        "completion_tokens": use.output,
        "total_tokens": use.input + use.output,
        "prompt_tokens_details": {
            "cached_tokens": of_input["cached_input"],
            "cache_write_tokens": written,
            "audio_tokens": of_input["audio_input"],
            "image_tokens": of_input["image_input"],
        },
        "completion_tokens_details": {
            "reasoning_tokens": of_output["reasoning"],
            "audio_tokens": of_output["audio_output"],
            "image_tokens": of_output["image_output"],
        },
        "cache_creation": {"ephemeral_1h_input_tokens": of_input["cache_write_1h"]},
        "server_tool_use": {"web_search_requests": calls.get("web_search_requests", 0)},
        "server_side_tool_usage_details": {"x_search_calls": calls.get("x_search_calls", 0)},
    }
