"""Money is integer nano-USD (1e-9 USD). Prices are nano-USD per million tokens. Never a float. Pure."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from decimal import Context, Decimal, Inexact, InvalidOperation, Overflow
from typing import Final

from schemas.events import PinnedPrice

__all__ = [
    "MAX_NANO_USD",
    "NANO_PER_USD",
    "TokenCounts",
    "cost_nano_usd",
    "nano_usd",
    "usd",
]

NANO_PER_USD: Final = 1_000_000_000
MAX_NANO_USD: Final = 2**53 - 1
"""The ledger computes in doubles, which are exact to here (about 9 million USD per balance)."""
_TOKENS_PER_MTOK: Final = 1_000_000
_EXACT: Final = Context(prec=28, traps=[Inexact, InvalidOperation, Overflow])
"""An amount that does not fit is refused; the default context would round it in silence."""


@dataclass(frozen=True, slots=True)
class TokenCounts:
    """Tokens of one attempt; cached ones are part of input, reasoning ones part of output."""

    input_tokens: int
    output_tokens: int
    cached_tokens: int = 0
    reasoning_tokens: int = 0


def cost_nano_usd(price: PinnedPrice, tokens: TokenCounts) -> int:
    """Cost of the tokens, rounded half-even to a nano-USD once; never falls as input or output grow."""
    uncached = tokens.input_tokens - tokens.cached_tokens
    numerator = (
        uncached * price.input_nano_usd_per_mtok
        + tokens.cached_tokens * price.cached_input_nano_usd_per_mtok
        + tokens.output_tokens * price.output_nano_usd_per_mtok
    )
    quotient, remainder = divmod(numerator, _TOKENS_PER_MTOK)
    doubled = 2 * remainder
    odd_tie = doubled == _TOKENS_PER_MTOK and quotient % 2 == 1
    return quotient + (1 if doubled > _TOKENS_PER_MTOK or odd_tie else 0)


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
