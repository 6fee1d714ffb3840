"""Which limits a request must meet, and what it holds on each: configuration and request to numbers.

Pure. Every scope (organization, project, key, user) contributes its rates, concurrency, quotas and
budgets; the ledger decides all of them at once. The cost on hold is a proved upper bound.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import msgspec

from limiter_worker.accepted import Accepted
from limiter_worker.admitted_terms import AdmittedTerms, AskedLimits, admitted_terms
from limiter_worker.external_budget.verdicts import Verdict, balance_of
from limiter_worker.periods import PeriodKind, period_at
from schemas.budget_service import Check
from schemas.config_state import Snapshot
from schemas.entities import Limits
from schemas.events import PinnedPrice, RequestAccepted
from schemas.ledger import keys
from schemas.ledger.documents import Admit, Balance, BroughtKey, Decline, Lease, Rate, Unit
from schemas.money import nano_usd, usd
from schemas.pricing.bound import bound, unpriced

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


class AdmissionRequest(msgspec.Struct, frozen=True):
    """What admission asks of the ledger for one request."""

    admit: Admit
    agreed: AdmittedTerms | None
    """What stands in its admission; ``None`` of a request that is declined."""


class _Scope(msgspec.Struct, frozen=True):
    name: str
    """Prefix of limit ids: org, project, key or user."""
    key: str
    """Prefix of ledger suffixes: unique within the organization."""
    limits: Limits
    has_default_rate: bool = False


def terms_of(
    accepted: Accepted,
    config: Snapshot,
    default: Defaults,
    now_ms: int,
    info: str,
    verdict: Verdict | None = None,
) -> AdmissionRequest | Decline:
    """The terms under the configuration in force, or why there are none: its model or organization is
    gone, or the model has no price where a budget applies. ``info`` is handed back at a reaping; ``verdict`` is that
    of the external budget service, where the organization has one.

    Background work waits for the limits that nobody stated; those that an operator set refuse it.
    """
    request = accepted.request
    if request.model not in config.models or request.org not in config.organizations:
        return Decline(why="gone")
    price = _price_of(request, config)
    scopes = list(_scopes(request, config))
    has_budget = verdict is not None or any(scope.limits.budgets for scope in scopes)
    if price is None and has_budget:
        return Decline(why="unpriced")
    tokens = request.input_tokens_bound + request.output_tokens_bound
    unstated: list[str] = []
    rates = [r for s in scopes for r in _rates(s, default, tokens, unstated)]
    in_flight = default.background if request.background else default.in_flight
    leases = [lease for s in scopes for lease in _leases(s, in_flight, unstated)]
    amounts: dict[Unit, int] = {"requests": 1, "tokens": tokens}
    if price is not None:
        amounts["nano_usd"] = bound(
            price, request.reach, request.input_tokens_bound, request.output_tokens_bound
        )
    balances = _balances(scopes, amounts, now_ms)
    if verdict is not None:
        balances.append(balance_of(verdict, amounts["nano_usd"]))
    asked = AskedLimits(rates, leases, balances)
    agreed = admitted_terms(accepted, asked, price, config.offset)
    admit = Admit(
        org=request.org,
        req=request.request_id,
        deadline_ms=request.deadline_ms,
        accepted_ms=request.accepted_at_ms,
        incarnation_ms=request.produce_by_ms,
        terms=agreed.encoded(),
        rates=tuple(rates),
        leases=tuple(leases),
        balances=tuple(balances),
        defer=_may_wait(scopes),
        waits_for=tuple(unstated) if request.background else (),
        info=info,
        key=_key_of(request),
        job=request.job,
    )
    return AdmissionRequest(admit, agreed)


def _price_of(request: RequestAccepted, config: Snapshot) -> PinnedPrice | None:
    """The price of a model that exists; ``None`` also where nobody could tell what the request costs."""
    price = config.prices[request.model].at(request.accepted_at_ms)
    return None if price is None or unpriced(price, request.reach) else price


def check_of(request: RequestAccepted, config: Snapshot) -> Check | None:
    """What the external budget service is asked about a request; ``None`` where it is refused without that."""
    if request.model not in config.models or (price := _price_of(request, config)) is None:
        return None
    tokens = request.input_tokens_bound, request.output_tokens_bound
    return Check(
        request_id=request.request_id,
        org=request.org,
        project=request.project,
        key=request.key_id,
        user=request.user,
        model=request.model,
        bound_tokens=sum(tokens),
        bound_usd=usd(bound(price, request.reach, *tokens)),
    )


def _key_of(request: RequestAccepted) -> BroughtKey | None:
    if request.idempotency_hash is None or request.fingerprint is None:
        return None
    return BroughtKey(key_hash=request.idempotency_hash, fingerprint=request.fingerprint)


def decline_terms(request: RequestAccepted, decline: Decline) -> AdmissionRequest:
    """What is asked of the ledger for a request that the gateway itself refuses: to keep that."""
    admit = Admit(
        org=request.org,
        req=request.request_id,
        deadline_ms=request.deadline_ms,
        accepted_ms=request.accepted_at_ms,
        incarnation_ms=request.produce_by_ms,
        decline=decline,
        job=request.job,
    )
    return AdmissionRequest(admit, None)


UNAVAILABLE: Final = Decline(why="unavailable", retry_after_ms=2_000)
"""Limits of the request are not known here, so nobody can tell whether it meets them."""


def kind_of_limit(limit_id: str) -> tuple[str, Unit]:
    """The type and unit that a client is told of a limit. They are in its id, so that a refusal is told
    alike when the limit has been changed or removed since."""
    match limit_id.split(":"):
        case [_, "budget", _]:
            return "budget", "nano_usd"
        case [_, "quota", "tokens", _]:
            return "quota", "tokens"
        case [_, "quota", *_]:
            return "quota", "requests"
        case [_, "tokens_per_min"]:
            return "rate_limit", "tokens"
        case _:
            return "rate_limit", "requests"


def _scopes(request: RequestAccepted, config: Snapshot) -> Iterator[_Scope]:
    yield _Scope(
        "org", keys.ORG_SCOPE, config.organizations[request.org].limits, has_default_rate=True
    )
    if request.project is not None and (project := config.projects.get(request.project)):
        yield _Scope("project", keys.scope("project", request.project), project.limits)
    if key := config.keys.get(request.key_id):
        yield _Scope("key", keys.scope("key", request.key_id), key.limits, has_default_rate=True)
    user = config.users.get(request.user) if request.user is not None else None
    if request.user is not None and user is not None and user.org == request.org:
        # One whom somebody outside vouches for may be called as another organization's user is.
        yield _Scope("user", keys.scope("user", request.user), user.limits)


def _may_wait(scopes: list[_Scope]) -> bool:
    """Whether the request waits for a limit that stands against it, whichever scope set that limit.

    The policy is that of the request: of the scopes that state one, the first of key, user, project
    and organization decides. None states one: it is refused.
    """
    stated = {scope.name: scope.limits.on_limit for scope in scopes}
    in_order = (stated.get(name) for name in ("key", "user", "project", "org"))
    return next((policy for policy in in_order if policy is not None), "reject") == "defer"


def _rates(
    scope: _Scope,
    default: Defaults,
    tokens: int,
    unstated: list[str],
) -> Iterator[Rate]:
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


def _leases(scope: _Scope, in_flight: int, unstated: list[str]) -> Iterator[Lease]:
    limit, limit_id = scope.limits.concurrency, f"{scope.name}:concurrency"
    if limit is None and scope.key == keys.ORG_SCOPE:
        limit, limit_id = in_flight, IN_FLIGHT
        unstated.append(limit_id)
    if limit is not None:
        yield Lease(key=keys.lease_suffix(scope.key), id=limit_id, limit=limit)


def _balances(scopes: list[_Scope], amounts: dict[Unit, int], now_ms: int) -> list[Balance]:
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
