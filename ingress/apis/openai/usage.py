"""How usage and costs read on OpenAI's surface, for tools that were written for its organization API. Pure.

Usage is kept by model, key and user and not by operation, so what is called completions here is every call of a model.
Sources: OpenAI's `GET /organization/usage/completions` and `GET /organization/costs`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, TypedDict

import msgspec

from ingress.apis.usage_pages import DAYS, HOURS, Dimension, Group, UsageForm, Width, is_unpriced
from schemas.money import usd


class CompletionsUsage(TypedDict):
    """What calls of models used in a bucket; what is not grouped by, and what is not kept, is `null`."""

    object: Literal["organization.usage.completions.result"]
    input_tokens: int
    """All of the input."""
    input_cached_tokens: int
    """Of it, read from a cache."""
    input_cache_write_tokens: int
    """Of it, written to one."""
    input_uncached_tokens: int
    """Of it, neither."""
    input_audio_tokens: int
    output_tokens: int
    output_audio_tokens: int
    num_model_requests: int
    project_id: str | None
    """The project that the key has now."""
    user_id: str | None
    api_key_id: str | None
    model: str | None
    batch: None
    service_tier: None


class CompletionsUsageBucket(TypedDict):
    """An hour or a day in UTC, from `start_time` until before `end_time`, in Unix seconds."""

    object: Literal["bucket"]
    start_time: int
    end_time: int
    results: list[CompletionsUsage]


class CompletionsUsagePage(TypedDict):
    """Buckets, the oldest first; `next_page` goes on behind them."""

    object: Literal["page"]
    data: list[CompletionsUsageBucket]
    has_more: bool
    next_page: str | None


class CostAmount(TypedDict):
    """An amount of money, to the nano-USD."""

    value: float
    currency: Literal["usd"]


class Costs(TypedDict):
    """What was billed in a bucket; what is not grouped by is `null`."""

    object: Literal["organization.costs.result"]
    amount: CostAmount | None
    """`null` where no attempt had a price."""
    line_item: str | None
    """The model."""
    project_id: str | None
    """The project that the key has now."""
    user_id: str | None
    api_key_id: str | None
    quantity: None
    quantity_unit: None


class CostsBucket(TypedDict):
    """A day in UTC, from `start_time` until before `end_time`, in Unix seconds."""

    object: Literal["bucket"]
    start_time: int
    end_time: int
    results: list[Costs]


class CostsPage(TypedDict):
    """Buckets, the oldest first; `next_page` goes on behind them."""

    object: Literal["page"]
    data: list[CostsBucket]
    has_more: bool
    next_page: str | None


_WHOSE: Final[Mapping[str, Dimension]] = {
    "project_id": "project",
    "user_id": "user",
    "api_key_id": "key_id",
}
_OF_WHOM: Final[Mapping[str, Dimension]] = {f"{name}s": which for name, which in _WHOSE.items()}


def _named(names: Mapping[str, Dimension], group: Group) -> dict[str, object]:
    return {name: group.get(which) for name, which in names.items()}


def _usage(group: Group, sums: Mapping[str, int]) -> dict[str, object]:
    cached, written = sums["cached_tokens"], sums["cache_write_tokens"]
    written += sums["cache_write_1h_tokens"]
    return {
        "object": "organization.usage.completions.result",
        "input_tokens": sums["input_tokens"],
        "input_cached_tokens": cached,
        "input_cache_write_tokens": written,
        "input_uncached_tokens": sums["input_tokens"] - cached - written,
        "input_audio_tokens": sums["audio_input_tokens"],
        "output_tokens": sums["output_tokens"],
        "output_audio_tokens": sums["audio_output_tokens"],
        "num_model_requests": sums["requests"],
        **_named(COMPLETIONS.dimensions, group),
        "batch": None,
        "service_tier": None,
    }


def _costs(group: Group, sums: Mapping[str, int]) -> dict[str, object]:
    # A number as OpenAI has it, and all its places, which a double would not keep of every sum.
    value = msgspec.Raw(usd(sums["cost_nano_usd"]).encode())
    return {
        "object": "organization.costs.result",
        "amount": None if is_unpriced(sums) else {"value": value, "currency": "usd"},
        **_named(COSTS.dimensions, group),
        "quantity": None,
        "quantity_unit": None,
    }


COMPLETIONS: Final = UsageForm(
    dimensions={**_WHOSE, "model": "model"},
    filters={**_OF_WHOM, "models": "model"},
    widths={"1h": HOURS, "1d": DAYS},
    result=_usage,
)
COSTS: Final = UsageForm(
    dimensions={**_WHOSE, "line_item": "model"},
    filters={**_OF_WHOM, "line_items": "model"},
    widths={"1d": Width(DAYS.seconds, DAYS.default, 180)},
    result=_costs,
)
