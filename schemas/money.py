"""Money is integer nano-USD (1e-9 USD). Never a float. What it is made of stands in ``schemas.pricing``. Pure."""

from __future__ import annotations

import functools
from decimal import Context, Decimal, Inexact, InvalidOperation, Overflow
from typing import Final

__all__ = [
    "MAX_NANO_USD",
    "NANO_PER_USD",
    "nano_usd",
    "usd",
]

NANO_PER_USD: Final = 1_000_000_000
MAX_NANO_USD: Final = 2**53 - 1
"""The ledger computes in doubles, which are exact to here (about 9 million USD per balance)."""
_EXACT: Final = Context(prec=28, traps=[Inexact, InvalidOperation, Overflow])
"""An amount that does not fit is refused; the default context would round it in silence."""


@functools.lru_cache(maxsize=4_096)
def nano_usd(amount: str) -> int:
    """Nano-USD of a decimal string of USD.

    Raises ``ValueError`` when it is not a decimal, is negative, finer than a nano-USD or above
    ``MAX_NANO_USD``.
    """
    try:
        nano = _EXACT.multiply(Decimal(amount), NANO_PER_USD)
    except (Inexact, InvalidOperation) as error:
        raise ValueError(f"{amount!r} is not a decimal amount of at most 28 digits") from error
    if not nano.is_finite() or nano != nano.to_integral_value():
        raise ValueError(f"{amount!r} is finer than 1e-9 USD or not finite")
    if not 0 <= nano <= MAX_NANO_USD:
        raise ValueError(f"{amount!r} is outside 0 to {usd(MAX_NANO_USD)} USD")
    return int(nano)


def usd(amount_nano_usd: int) -> str:
    """The amount in USD, as a plain decimal string with nine places; corrections are negative."""
    return f"{Decimal(amount_nano_usd).scaleb(-9):.9f}"
