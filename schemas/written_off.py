"""What a vanished attempt counts as: its owner is gone, and nobody saw what it used. Pure.

The ledger books the whole hold. Whoever writes that down (the dispatcher that takes the request over, the reaper,
and the correction of an owner that wakes up) has to say the same, or the books would not add up.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from schemas.events import Attempt
from schemas.usage import COUNTED

__all__ = ["UNKNOWN_BACKEND", "WRITTEN_OFF", "taken_back", "written_off"]

UNKNOWN_BACKEND: Final = "unknown"
"""Stands where nobody knows which backend was called, or whether any was."""
WRITTEN_OFF: Final = "unknown"
"""The status of such an attempt."""


def written_off(
    number: int,
    booked: Mapping[str, int],
    *,
    is_priced: bool,
    input_tokens_bound: int,
    accepted_at_ms: int,
    deadline_ms: int,
    status: str = WRITTEN_OFF,
) -> Attempt:
    """The attempt as an estimate of what was ``booked`` for it, by unit.

    Input is filled first, because the ledger knows tokens only as one sum. Without a price there is no cost.
    It ends at the deadline: the one time that all who may write it know.
    """
    tokens = booked.get("tokens", 0)
    input_tokens = min(tokens, input_tokens_bound)
    return Attempt(
        attempt=number,
        backend=UNKNOWN_BACKEND,
        status=status,
        started_at_ms=accepted_at_ms,
        finished_at_ms=deadline_ms,
        input_tokens=input_tokens,
        output_tokens=tokens - input_tokens,
        estimated=True,
        cost_nano_usd=booked.get("nano_usd", 0) if is_priced else None,
    )


def taken_back(attempt: Attempt) -> Attempt:
    """What takes an attempt out of the books again."""
    cost, kinds = attempt.cost_nano_usd, attempt.tool_kinds
    return msgspec.structs.replace(
        attempt,
        **{name: -getattr(attempt, name) for name in COUNTED},
        cost_nano_usd=None if cost is None else -cost,
        tool_kinds=kinds and [msgspec.structs.replace(k, calls=-k.calls) for k in kinds],
    )
