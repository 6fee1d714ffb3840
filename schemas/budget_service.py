"""The contract with an external budget service: what it is asked, what is read of its answers, and how spend is told.
Pure.

Amounts of USD are plain decimal strings, never floats. Whatever else comes is no answer: the service counts as
down for that question, and nothing is guessed. Published as OpenAPI in ``docs/reference``.

What makes ``remaining_usd`` exact: the service counts each spend line once, by its id, before it takes it with a
2xx, and an answer counts every line that was taken before the question was sent.
"""

from __future__ import annotations

import re
from typing import Annotated, Final, Literal, TypeAlias

import msgspec

from schemas.failures import Poison
from schemas.money import MAX_NANO_USD, NANO_PER_USD

__all__ = [
    "CHECK_PATH",
    "LINES_MAX",
    "RETURNED_AFTER_S",
    "SPEND_PATH",
    "Allow",
    "Answer",
    "Check",
    "Deny",
    "LimitType",
    "OddAnswer",
    "Spend",
    "SpendLine",
    "is_spend_balance",
    "nano_usd_told",
    "read_answer",
    "spend_balance",
    "units_told",
    "valid_for_s",
]

CHECK_PATH: Final = "/v1/check"
SPEND_PATH: Final = "/v1/spend"
LINES_MAX: Final = 500
"""Spend lines of one call."""
RETURNED_AFTER_S: Final = 10.0
"""Spend that is taken back is told so long after that was announced: well above the deadline of a question that was
asked before."""
_VALID_MIN_MS: Final = 100
_VALID_MAX_MS: Final = 60_000
_DIGITS_MAX: Final = 24
_PREFIX: Final = "b:service/"

LimitType: TypeAlias = Literal["budget", "quota", "rate_limit"]
Text: TypeAlias = Annotated[str, msgspec.Meta(max_length=64)]
Milliseconds: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=2**53 - 1)]
Seconds: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=10**9)]


class OddAnswer(Poison):
    """Something came that is no answer of a budget service."""


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """The question whether a request may be spent for."""

    request_id: str
    """Id of the request that asks. Others of the same key go by the same answer."""
    org: str
    """Organization that pays."""
    project: str | None
    """Project of the key; null if it has none."""
    key: str
    """Id of the API key."""
    user: str | None
    """User of the key; null if it has none."""
    model: str
    """Model that is asked for."""
    bound_tokens: int
    """What it can use at most."""
    bound_usd: str
    """What it can cost at most, as a decimal string of USD."""


class _Told(msgspec.Struct, frozen=True, kw_only=True, tag_field="decision"):
    valid_for_ms: Milliseconds = 1_000
    """For how long requests of the same organization and key go by this answer; taken as at least 100 and at most
    60 000."""


class Allow(_Told, frozen=True, kw_only=True, tag="allow"):
    """The request may be spent for, within ``remaining_usd`` if that is said."""

    limit_type: LimitType | None = None
    """Kind of the limit that stands nearest."""
    current_usage: Text | None = None
    """What is used of it, as a decimal string: of USD for a budget, else of requests."""
    limit: Text | None = None
    """The limit itself, likewise."""
    retry_after: Seconds | None = None
    """Seconds until a refused request may be tried again."""
    remaining_usd: Text | None = None
    """What may still be spent beside the spend lines that the service has taken, as a decimal string of USD. May be
    negative. Not said: there is no such bound."""


class Deny(_Told, frozen=True, kw_only=True, tag="deny"):
    """The request may not be spent for."""

    limit_type: LimitType
    """Kind of the limit that stands against it."""
    current_usage: Text
    """What is used of it, as a decimal string: of USD for a budget, else of requests."""
    limit: Text
    """The limit itself, likewise."""
    retry_after: Seconds | None = None
    """Seconds until it may be tried again."""


Answer: TypeAlias = Allow | Deny


class SpendLine(msgspec.Struct, frozen=True, kw_only=True):
    """What one request cost, or a correction of that. The first line of an id counts, copies do not."""

    id: str
    """``<request>`` of what a request cost, ``<request>:<attempt>:<revision>`` of a correction."""
    request_id: str
    """Id of the request."""
    org: str
    """Organization that pays."""
    project: str | None
    """Project of the key; null if it has none."""
    key: str
    """Id of the API key."""
    user: str | None
    """User of the key; null if it has none."""
    model: str
    """Model that was asked for."""
    spent_usd: str
    """Decimal string of USD; negative where spend is taken back."""
    at_ms: int
    """When it ended, Unix milliseconds."""


class Spend(msgspec.Struct, frozen=True, kw_only=True):
    """Spend lines, each of which may have come before."""

    lines: Annotated[tuple[SpendLine, ...], msgspec.Meta(min_length=1, max_length=LINES_MAX)]
    """In the order in which they count."""


_ANSWER: Final = msgspec.json.Decoder(Answer)
_DECIMAL: Final = re.compile(rf"(-?)([0-9]{{1,{_DIGITS_MAX}}})(?:\.([0-9]{{1,{_DIGITS_MAX}}}))?")


def read_answer(body: bytes) -> Answer:
    """The answer in a body. Raises ``OddAnswer``; fields that nobody knows are passed over."""
    try:
        answer: Answer = _ANSWER.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise OddAnswer(str(error)[:200]) from None
    remaining = answer.remaining_usd if isinstance(answer, Allow) else None
    for amount in (answer.current_usage, answer.limit, remaining):
        if amount is not None and _DECIMAL.fullmatch(amount) is None:
            raise OddAnswer(f"{amount!r} is no plain decimal string")
    return answer


def nano_usd_told(amount: str) -> int:
    """Nano-USD of an amount that the service told, rounded down, and bounded to what the ledger can count."""
    return _scaled(amount, NANO_PER_USD)


def units_told(amount: str) -> int:
    """A whole number of requests that the service told, likewise."""
    return _scaled(amount, 1)


def _scaled(amount: str, factor: int) -> int:
    match = _DECIMAL.fullmatch(amount)
    assert match is not None, "an answer is read before it is counted with"
    sign, whole, part = match.groups()
    part = part or "0"
    units: int = int(f"{sign}{whole}{part}") * factor // 10 ** len(part)
    return max(-MAX_NANO_USD, min(MAX_NANO_USD, units))


def valid_for_s(answer: Answer) -> float:
    """For how long it holds: neither a question for each request, nor one that nobody asks again."""
    return max(_VALID_MIN_MS, min(_VALID_MAX_MS, answer.valid_for_ms)) / 1_000


def spend_balance(scope: str) -> str:
    """The suffix of the balance of all that is held and spent of a scope since its service is asked."""
    return f"{_PREFIX}{scope}/nano_usd:total"


def is_spend_balance(suffix: str) -> bool:
    """Whether it is such a balance."""
    return suffix.startswith(_PREFIX)
