"""What stands against the requests of somebody: the limits of organization, project, key and user, as the ledger keeps
them. Pure.

The limiter asks them of the ledger for a request, ingress tells them to whoever asks what is left. Every scope
contributes its rates, concurrency, quotas and budgets.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from schemas.config_state import Snapshot
from schemas.entities import Limits
from schemas.ledger import keys
from schemas.ledger.documents import Balance, Lease, Rate, Unit
from schemas.money import nano_usd
from schemas.periods import PeriodKind, period_at

_MINUTE_S = 60


IN_FLIGHT: Final = "org:in_flight"
"""The concurrency limit of organizations that state none."""


@dataclass(frozen=True, slots=True)
class Defaults:
    """The limits of those that state none: a request rate of organizations and keys, and how many
    requests of one organization are between admission and their end."""

    requests_per_s: float
    burst: int
    in_flight: int

    @property
    def background(self) -> int:
        """Places that jobs may take: a quarter is left to those who wait on a connection."""
        return self.in_flight - self.in_flight // 4


class LimitScope(msgspec.Struct, frozen=True):
    """One of the four that a request is limited by."""

    name: str
    """Prefix of limit ids: org, project, key or user."""
    key: str
    """Prefix of ledger suffixes: unique within the organization."""
    limits: Limits
    has_default_rate: bool = False


def limit_scopes(
    org: str, project_id: str | None, key_id: str, user_id: str | None, config: Snapshot
) -> Iterator[LimitScope]:
    """The scopes of a caller of an organization that exists."""
    yield LimitScope("org", keys.ORG_SCOPE, config.organizations[org].limits, has_default_rate=True)
    if project_id is not None and (project := config.projects.get(project_id)):
        yield LimitScope("project", keys.scope("project", project_id), project.limits)
    if key := config.keys.get(key_id):
        yield LimitScope("key", keys.scope("key", key_id), key.limits, has_default_rate=True)
    user = config.users.get(user_id) if user_id is not None else None
    if user_id is not None and user is not None and user.org == org:
        # One whom somebody outside vouches for may be called as another organization's user is.
        yield LimitScope("user", keys.scope("user", user_id), user.limits)


def rates_of(
    scope: LimitScope,
    default: Defaults,
    tokens: int,
    unstated: list[str],
) -> Iterator[Rate]:
    """Its buckets, for a request of at most so many tokens; ``unstated`` gets the ids of those that nobody stated."""
    per_s = scope.limits.requests_per_s
    burst = scope.limits.burst
    limit_id = f"{scope.name}:requests_per_s"
    if per_s is None and scope.has_default_rate:
        per_s = default.requests_per_s
        burst = burst or default.burst
        unstated.append(limit_id)
    if per_s is not None:
        yield Rate(
            key=keys.request_rate_suffix(scope.key),
            id=limit_id,
            cost=1,
            burst=burst or max(1, math.ceil(per_s)),
            rate_milli_per_s=max(1, int(per_s * 1000)),
            limit=math.ceil(per_s),
        )
    per_min = scope.limits.tokens_per_min
    if per_min is not None:
        limit_id = f"{scope.name}:tokens_per_min"
        yield Rate(
            key=keys.token_rate_suffix(scope.key),
            id=limit_id,
            cost=tokens,
            burst=per_min,
            rate_milli_per_s=max(1, per_min * 1000 // _MINUTE_S),
            limit=per_min,
        )


def leases_of(scope: LimitScope, in_flight: int, unstated: list[str]) -> Iterator[Lease]:
    """Its places for requests under way; ``in_flight`` are those of an organization that states none."""
    limit, limit_id = scope.limits.concurrency, f"{scope.name}:concurrency"
    if limit is None and scope.key == keys.ORG_SCOPE:
        limit, limit_id = in_flight, IN_FLIGHT
        unstated.append(limit_id)
    if limit is not None:
        yield Lease(key=keys.lease_suffix(scope.key), id=limit_id, limit=limit)


def balances_of(
    scopes: Sequence[LimitScope], amounts: Mapping[Unit, int], now_ms: int
) -> list[Balance]:
    """One balance per scope, unit and period; where two limits meet on one, the lower holds.

    The organization's cost and tokens of the month are tracked without a limit, so that the ledger
    and the log have sums to compare for every organization.
    """
    wanted: dict[tuple[str, Unit, PeriodKind], tuple[str, int | None]] = {
        ("org", "tokens", "month"): ("", None),
        ("org", "nano_usd", "month"): ("", None),
    }
    for scope in scopes:
        for budget in scope.limits.budgets:
            _lower(
                wanted,
                (scope.key, "nano_usd", budget.period),
                f"{scope.name}:budget:{budget.period}",
                nano_usd(budget.usd),
            )
        for quota in scope.limits.quotas:
            _lower(
                wanted,
                (scope.key, quota.unit, quota.period),
                f"{scope.name}:quota:{quota.unit}:{quota.period}",
                quota.amount,
            )
    balances = []
    for (scope_key, unit, kind), (limit_id, limit) in wanted.items():
        if unit not in amounts:
            continue
        period = period_at(kind, now_ms)
        balances.append(
            Balance(
                key=keys.balance_suffix(f"{scope_key}/{unit}", period.id),
                unit=unit,
                amount=amounts[unit],
                id=limit_id,
                limit=limit,
                start_ms=period.start_ms,
                end_ms=period.end_ms,
            )
        )
    return balances


def _lower(
    wanted: dict[tuple[str, Unit, PeriodKind], tuple[str, int | None]],
    which: tuple[str, Unit, PeriodKind],
    limit_id: str,
    limit: int,
) -> None:
    present = wanted.get(which, ("", None))[1]
    wanted[which] = limit_id, limit if present is None else min(present, limit)
