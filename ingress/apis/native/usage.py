"""How usage reads on the native surface: every measure, by model, key and user. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, TypedDict

from ingress.apis.usage_pages import DAYS, HOURS, Group, UsageForm, is_unpriced
from schemas.money import usd


class UsageResult(TypedDict):
    """What was used in a bucket, of those of whom it is told; what is not grouped by is `null`."""

    object: Literal["usage.result"]
    model: str | None
    key_id: str | None
    user: str | None
    requests: int
    attempts: int
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    reasoning_tokens: int
    cache_write_tokens: int
    cache_write_1h_tokens: int
    audio_input_tokens: int
    image_input_tokens: int
    audio_output_tokens: int
    image_output_tokens: int
    tool_calls: int
    unpriced: int
    """Attempts whose model had no price."""
    cost_usd: str | None
    """`null` where no attempt had a price."""


class UsageBucket(TypedDict):
    """An hour or a day in UTC, from `start_time` until before `end_time`, in Unix seconds."""

    object: Literal["bucket"]
    start_time: int
    end_time: int
    results: list[UsageResult]


class UsagePage(TypedDict):
    """Buckets, the oldest first; `next_page` goes on behind them."""

    object: Literal["page"]
    data: list[UsageBucket]
    has_more: bool
    next_page: str | None


def _result(group: Group, sums: Mapping[str, int]) -> dict[str, object]:
    counts = {name: amount for name, amount in sums.items() if name != "cost_nano_usd"}
    said: dict[str, object] = {"object": "usage.result", **counts}
    said |= {name: group.get(dimension) for name, dimension in FORM.dimensions.items()}
    said["cost_usd"] = None if is_unpriced(sums) else usd(sums["cost_nano_usd"])
    return said


FORM: Final = UsageForm(
    dimensions={"model": "model", "key_id": "key_id", "user": "user"},
    filters={},
    widths={"1h": HOURS, "1d": DAYS},
    result=_result,
)
