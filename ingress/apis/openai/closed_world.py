"""Reads out of a chat completion what it can reach of a price; refuses what may cost more than anybody bounds. Pure.

What a table calls priced (``request_fields``) goes into the reach, and where a budget applies its price must be
stated. What it calls costly, what it does not know, and hosted tools without a stated number of calls follow
``unknown_fields`` of the model: by default they are refused, by their name, where a budget and a price apply, and
passed elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from ingress.apis.openai.parts import Media
from ingress.apis.openai.request_fields import CHAT, Field
from ingress.apis.parsed_request import Call, Fields, invalid
from ingress.auth.billing import Billing
from ingress.http.refusals import Refusal
from schemas.entities import Model
from schemas.events import Reach
from schemas.pricing.bound import NOTHING_SPECIAL, unpriced

FAST: Final = {"fast": "priority"}
"""OpenAI answers, and bills, ``service_tier: fast`` as priority."""
_FUNCTIONS: Final = frozenset({"function", "custom"})
_RUN_BY_CLIENTS: Final = frozenset({"bash", "text_editor", "computer", "memory"})
"""Tools that Anthropic defines and clients run: no call of them is billed."""
_VERSION: Final = re.compile(r"(_preview)?([_-]\d{4,}.*)?\Z")
"""Of hosted tools: ``web_search_preview_2025_03_11`` (OpenAI), ``web_search_20250305`` (Anthropic)."""
_KIND: Final = re.compile(r"[a-z0-9][a-z0-9_:-]{0,63}")
_MARKS: Final = (b'"cache_control"', b'"prompt_cache_breakpoint"')
"""Names of marks in messages, parts and tools; in a text their quotes would be escaped."""
_HOUR: Final = b'"1h"'
_NAME_CHARS_MAX: Final = 64


@dataclass(slots=True)
class _Reading:
    """What was read so far."""

    model: Model
    billing: Billing
    reach: Reach = NOTHING_SPECIAL
    refusal: Refusal | None = None
    """The first one."""
    kinds: list[str] = field(default_factory=list)

    def reaches(self, param: str, **more: Any) -> None:
        """The request can reach this as well; its price must be stated where a budget applies."""
        self.reach = msgspec.structs.replace(self.reach, **more)
        if self.refusal is not None or not self.billing.is_budgeted:
            return
        alone = msgspec.structs.replace(NOTHING_SPECIAL, **more)
        missing = [unpriced(price, alone) for price in self.billing.prices]
        if all(missing):
            # Where the price of another date states it, admission knows which is in force.
            what = (
                f"reaches what this model has no price for ({missing[0][0]}), and a budget applies"
            )
            self.refusal = invalid(param, what)

    def may_cost(self, param: str, what: str) -> None:
        """What may cost something that nothing bounds."""
        policy = self.model.unknown_fields
        is_refused = policy == "refuse" or (policy == "auto" and self.billing.is_budgeted)
        if self.refusal is None and is_refused:
            self.refusal = invalid(param, what)

    def result(self) -> Reach | Refusal | None:
        """What was read; ``None`` when it is nothing."""
        if self.refusal is not None:
            return self.refusal
        return None if self.reach == NOTHING_SPECIAL else self.reach


def read_reach(
    fields: Fields,
    payload: bytes,
    media: Media,
    model: Model,
    billing: Billing,
    rows: Mapping[str, Field] = CHAT,
) -> Reach | Refusal | None:
    """What the request can reach beside plain input and output; ``None`` when nothing."""
    reading = _Reading(model, billing)
    _read_names(fields, rows, reading)
    _read_tools(fields, reading)
    _read_caches(fields, payload, reading)
    if media.image_tokens:
        reading.reaches("messages", image_input_tokens_bound=media.image_tokens)
    if media.audio_tokens:
        reading.reaches("messages", audio_input_tokens_bound=media.audio_tokens)
    return reading.result()


def with_text_reach(
    call: Call, fields: Fields, rows: Mapping[str, Field], model: Model, billing: Billing
) -> Call | Refusal:
    """A call that has neither media nor tools, with what it can reach."""
    reading = _Reading(model, billing)
    _read_names(fields, rows, reading)
    _read_caches(fields, call.payload, reading)
    reach = reading.result()
    return reach if isinstance(reach, Refusal) else msgspec.structs.replace(call, reach=reach)


def with_reach(
    call: Call,
    fields: Fields,
    media: Media,
    model: Model,
    billing: Billing,
    rows: Mapping[str, Field] = CHAT,
) -> Call | Refusal:
    """The call with what it can reach, and with bounds that hold all of it.

    A prediction that is rejected is billed as output: its bytes. Hosted tools bring input of their own, as much as
    the model can read.
    """
    reach = read_reach(fields, call.payload, media, model, billing, rows)
    if isinstance(reach, Refusal):
        return reach
    has_tools = reach is not None and reach.tool_calls_bound > 0
    window = (model.context_window_tokens or 0) if has_tools else 0
    prediction = fields.get("prediction")
    predicted = 0 if prediction is None else len(msgspec.json.encode(prediction))
    return msgspec.structs.replace(
        call,
        reach=reach,
        input_tokens_bound=max(call.input_tokens_bound, window),
        texts=None if has_tools else call.texts,
        output_tokens_bound=call.output_tokens_bound + predicted * (fields.get("n") or 1),
    )


def _read_names(fields: Fields, rows: Mapping[str, Field], reading: _Reading) -> None:
    for name, value in fields.items():
        if value is None:
            continue
        row = rows.get(name)
        if row is None:
            what = "is not known here: it may change the bill, and a budget applies"
            reading.may_cost(name[:_NAME_CHARS_MAX], what)
        elif row.effect == "costly":
            what = f"may change the bill by what nothing bounds ({row.why}), and a budget applies"
            reading.may_cost(name, what)
        elif name == "service_tier":
            _read_tier(value, reading)
        elif name == "modalities":
            _read_modalities(value, reading)
        elif name == "audio":
            reading.reaches(name, audio_output=True)


def _read_tier(value: Any, reading: _Reading) -> None:
    if isinstance(value, str):
        tier = value.strip().lower()[:_NAME_CHARS_MAX]
        reading.reaches("service_tier", service_tier=FAST.get(tier, tier))
    elif reading.refusal is None:
        reading.refusal = invalid("service_tier", "must be a string")


def _read_modalities(value: Any, reading: _Reading) -> None:
    for kind in value if isinstance(value, list) else [value]:
        match kind:
            case "text":
                pass
            case "audio":
                reading.reaches("modalities", audio_output=True)
            case "image":
                reading.reaches("modalities", image_output=True)
            case _:
                what = "names what is not known here: it may change the bill, and a budget applies"
                reading.may_cost("modalities", what)


def _read_tools(fields: Fields, reading: _Reading) -> None:
    """Functions are text. Hosted tools cost by call, and how many calls there are only their operator can say."""
    options = fields.get("web_search_options")
    if options is not None:
        size = options.get("search_context_size") if isinstance(options, dict) else None
        sized = f"web_search:{size}" if size in ("low", "medium", "high") else "web_search"
        _read_tool("web_search_options", sized, fields, reading)
    for index, tool in enumerate(fields.get("tools") or ()):
        kind = _kind_of(tool)
        if kind is not None:
            _read_tool(f"tools[{index}].type", kind, fields, reading)
        if kind == "image_generation":
            reading.reaches(f"tools[{index}].type", image_output=True)


def _kind_of(tool: Any) -> str | None:
    """The kind of a hosted tool, without the version of its name; ``None`` for functions."""
    if not isinstance(tool, dict):
        return None
    named = tool.get("type")
    if named is None:
        # Without a type stand Anthropic's functions, and Gemini's tools under their own name.
        is_function = not tool or "name" in tool or "function" in tool
        named = "function" if is_function else next(iter(tool))
    if named in _FUNCTIONS if isinstance(named, str) else False:
        return None
    kind = _VERSION.sub("", named, count=1) if isinstance(named, str) else ""
    if kind in _RUN_BY_CLIENTS and kind != named:
        return None
    return kind if _KIND.fullmatch(kind) else "unknown"


def _read_tool(param: str, kind: str, fields: Fields, reading: _Reading) -> None:
    most = reading.model.max_tool_calls
    if most is None:
        what = f"is a hosted tool ({kind}), whose calls this model does not bound, and a budget applies"
        reading.may_cost(param, what)
        return
    if kind not in reading.kinds:
        reading.kinds.append(kind)
    calls = most * (fields.get("n") or 1)
    reading.reaches(param, tool_kinds=[kind], tool_calls_bound=calls)
    reading.reach = msgspec.structs.replace(reading.reach, tool_kinds=list(reading.kinds))


def _read_caches(fields: Fields, payload: bytes, reading: _Reading) -> None:
    """Marks ask for writes to a cache; where a price states them, a backend may make them unasked."""
    is_marked = any(mark in payload for mark in _MARKS)
    named = next(
        (n for n in ("prompt_cache_options", "prompt_cache_retention") if fields.get(n)), None
    )
    is_stated = any(p.cache_write_usd_per_mtok is not None for p in reading.model.prices)
    if is_marked or named or is_stated:
        an_hour = is_marked and _HOUR in payload
        reading.reaches(named or "cache_control", cache_writes=True, cache_writes_1h=an_hour)
