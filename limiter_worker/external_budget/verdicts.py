"""Verdicts of an external budget service: what they ask of the ledger, and how a refusal by one is told. Pure.

A verdict is a term of ``admit`` like any budget: one balance, asked last. What it says travels in the id of that
limit, which the ledger keeps with its answer, so that a copy of the request is told the same.
"""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

import msgspec

from schemas.budget_service import (
    Answer,
    Deny,
    LimitType,
    nano_usd_told,
    spend_balance,
    units_told,
)
from schemas.config_state import Snapshot
from schemas.entities import BudgetService
from schemas.events import Denial
from schemas.ledger import keys
from schemas.ledger.documents import Balance, Unit
from schemas.money import MAX_NANO_USD

__all__ = [
    "POLICY_DENIED",
    "Source",
    "Verdict",
    "balance_of",
    "by_policy",
    "denial_of",
    "is_of_service",
    "scope_of",
    "stated_for",
    "verdict_of",
]

Source: TypeAlias = Literal["asked", "cached", "last_known", "policy"]
"""Whence a verdict is: an answer to this request or one beside it, one that still holds, the last one before the
service fell silent, or what the operator stated for that."""

_MARK: Final = "budget_service"
POLICY_DENIED: Final = f"{_MARK}:deny:policy"
"""The limit that is told where nobody answers for the budget and the operator stated ``deny``."""
_NEVER: Final = -MAX_NANO_USD
"""A limit that nothing meets."""
_POLICY_RETRY_MS: Final = 2_000


class _Denied(msgspec.Struct, frozen=True):
    limit_type: LimitType
    usage: int
    limit: int
    retry_after_ms: int | None


class Verdict(msgspec.Struct, frozen=True):
    """What the budget service says of an organization's key, or the policy in its place."""

    source: Source
    scope: str
    """Whose spend counts against its remainder, as the balance names it."""
    denied: _Denied | None = None
    ceiling_nano_usd: int | None = None
    """What may be held and spent in all on the balance of the scope; ``None``: there is no such bound."""
    ahead_nano_usd: int = 0
    """By how much that balance is ahead of the figures of the service, as clients are told them."""

    @property
    def decision(self) -> Literal["allow", "deny"]:
        """In a word."""
        return "allow" if self.denied is None else "deny"

    def again(self, source: Source) -> Verdict:
        """The same, from elsewhere."""
        return msgspec.structs.replace(self, source=source)


def verdict_of(answer: Answer, scope: str, counted_nano_usd: int) -> Verdict:
    """The verdict in an answer.

    ``counted_nano_usd`` is spend on the balance of the scope that the service has counted for sure: its remainder
    stands beside that. What else is on the balance, held or spent, is not known to it and counts here.
    """
    if isinstance(answer, Deny):
        kind = answer.limit_type
        told = nano_usd_told if kind == "budget" else units_told
        retry_ms = None if answer.retry_after is None else 1_000 * answer.retry_after
        used, limit = told(answer.current_usage), told(answer.limit)
        return Verdict("asked", scope, _Denied(kind, used, limit, retry_ms))
    if answer.remaining_usd is None:
        return Verdict("asked", scope)
    remaining = nano_usd_told(answer.remaining_usd)
    ceiling = max(_NEVER, min(MAX_NANO_USD, remaining + counted_nano_usd))
    is_shown = answer.limit_type == "budget" and answer.limit is not None
    shown = nano_usd_told(answer.limit or "") if is_shown else remaining
    return Verdict("asked", scope, None, ceiling, ceiling - shown)


def by_policy(stated: BudgetService, key_id: str, last: Verdict | None) -> Verdict:
    """The verdict while the service does not answer. Of whom nothing is known yet nothing is guessed: denied."""
    scope = scope_of(stated, key_id)
    if stated.while_down == "allow":
        return Verdict("policy", scope)
    if stated.while_down == "last_known" and last is not None:
        return last.again("last_known")
    return Verdict("policy", scope, _Denied("budget", 0, 0, _POLICY_RETRY_MS))


def stated_for(config: Snapshot, org: str) -> BudgetService | None:
    """Whether a budget service is asked for the organization, and what holds while it is silent."""
    entity = config.organizations.get(org)
    return None if entity is None else entity.budget_service


def scope_of(stated: BudgetService, key_id: str) -> str:
    """Whose spend counts against a remainder that is told for the key."""
    return keys.ORG_SCOPE if stated.remainder_of == "organization" else keys.scope("key", key_id)


def balance_of(verdict: Verdict, amount_nano_usd: int) -> Balance:
    """The term of ``admit``: an allowed request holds its bound there in any case, so that later remainders have it."""
    limit = verdict.ceiling_nano_usd if verdict.denied is None else _NEVER
    unit: Unit = "nano_usd"
    return Balance(
        key=spend_balance(verdict.scope),
        unit=unit,
        amount=amount_nano_usd,
        id="" if limit is None else _id_of(verdict),
        limit=limit,
        start_ms=0,
    )


def _id_of(verdict: Verdict) -> str:
    denied = verdict.denied
    if denied is None:
        return f"{_MARK}:remainder:{verdict.source}:{verdict.ahead_nano_usd}"
    told = (denied.limit_type, denied.usage, denied.limit, denied.retry_after_ms)
    return ":".join((_MARK, "deny", verdict.source, *map(str, told)))


def is_of_service(limit_id: str) -> bool:
    """Whether the limit is a verdict of a budget service."""
    return limit_id.startswith(_MARK)


def denial_of(limit_id: str, usage: int, limit: int, retry_after_ms: int | None) -> Denial:
    """What is told of a refusal by a verdict: the service's figures, the verdict and its source."""
    _, word, source, *told = limit_id.split(":")
    name = f"{_MARK}:{word}:{source}"
    if word == "remainder":
        ahead = int(told[0])
        return Denial(
            limit_id=name,
            limit_type="budget",
            unit="nano_usd",
            current_usage=max(0, usage - ahead),
            limit=limit - ahead,
            retry_after_ms=retry_after_ms,
        )
    kind, used, most, retry_ms = told
    return Denial(
        limit_id=name,
        limit_type=kind,
        unit="nano_usd" if kind == "budget" else "requests",
        current_usage=int(used),
        limit=int(most),
        retry_after_ms=None if retry_ms == "None" else int(retry_ms),
    )
