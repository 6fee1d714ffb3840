"""What a correction adds to balances. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from schemas.events import Attempt, Booking

__all__ = ["corrected_bookings"]


class _Balance(Protocol):
    @property
    def key(self) -> str: ...
    @property
    def unit(self) -> str: ...


def corrected_bookings(balances: Iterable[_Balance], delta: Attempt) -> list[Booking]:
    """What the change of an attempt adds to each balance of its request; the request itself stays counted once."""
    amounts = {
        "nano_usd": delta.cost_nano_usd or 0,
        "tokens": delta.input_tokens + delta.output_tokens,
    }
    return [
        Booking(key=each.key, unit=each.unit, amount=amounts[each.unit])
        for each in balances
        if each.unit in amounts
    ]
