"""Which limits a request must meet, and what it holds on each: configuration and request to numbers.

Pure. Every scope (organization, project, key, user) contributes its rates, concurrency, quotas and
budgets; the ledger decides all of them at once. The cost on hold is a proved upper bound.
"""

from __future__ import annotations

from typing import Final

import msgspec

from limiter_worker.accepted import Accepted
from limiter_worker.admitted_terms import AdmittedTerms, AskedLimits, admitted_terms
from limiter_worker.external_budget.verdicts import Verdict, balance_of
from schemas.budget_service import Check
from schemas.config_state import Snapshot
from schemas.events import PinnedPrice, RequestAccepted
from schemas.flex import is_flex
from schemas.ledger.documents import Admit, BroughtKey, Decline, Unit
from schemas.money import usd
from schemas.pricing.bound import bound, unpriced
from schemas.stated_limits import (
    Defaults,
    LimitScope,
    balances_of,
    leases_of,
    limit_scopes,
    rates_of,
)


class AdmissionRequest(msgspec.Struct, frozen=True):
    """What admission asks of the ledger for one request."""

    admit: Admit
    agreed: AdmittedTerms | None
    """What stands in its admission; ``None`` of a request that is declined."""


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
    scopes = list(limit_scopes(request.org, request.project, request.key_id, request.user, config))
    has_budget = verdict is not None or any(scope.limits.budgets for scope in scopes)
    if price is None and has_budget:
        return Decline(why="unpriced")
    tokens = request.input_tokens_bound + request.output_tokens_bound
    unstated: list[str] = []
    rates = [r for s in scopes for r in rates_of(s, default, tokens, unstated)]
    in_flight = default.background if request.background else default.in_flight
    leases = [lease for s in scopes for lease in leases_of(s, in_flight, unstated)]
    amounts: dict[Unit, int] = {"requests": 1, "tokens": tokens}
    if price is not None:
        amounts["nano_usd"] = bound(
            price, request.reach, request.input_tokens_bound, request.output_tokens_bound
        )
    balances = balances_of(scopes, amounts, now_ms)
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
        # Nobody waits on it before its deadline: whatever may let it through later is asked again.
        defer=is_flex(request) or _may_wait(scopes),
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


def _may_wait(scopes: list[LimitScope]) -> bool:
    """Whether the request waits for a limit that stands against it, whichever scope set that limit.

    The policy is that of the request: of the scopes that state one, the first of key, user, project
    and organization decides. None states one: it is refused.
    """
    stated = {scope.name: scope.limits.on_limit for scope in scopes}
    in_order = (stated.get(name) for name in ("key", "user", "project", "org"))
    return next((policy for policy in in_order if policy is not None), "reject") == "defer"
