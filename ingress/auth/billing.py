"""Decides what is at stake for a caller: which limits count money or tokens, and at which prices. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

from ingress.auth.caller import Caller
from schemas.config_state import Snapshot
from schemas.entities import Limits
from schemas.events import PinnedPrice

__all__ = ["NOTHING", "Billing", "BillingOf", "billing_of", "limits_of_owners"]


@dataclass(frozen=True, slots=True)
class Billing:
    """What a request of a caller meets once it costs something."""

    prices: tuple[PinnedPrice, ...] = ()
    """Those of the model, of all dates."""
    has_budget: bool = False
    """Whether a ceiling on USD applies."""
    has_token_limit: bool = False
    """Whether a quota or a rate of tokens applies."""

    @property
    def is_budgeted(self) -> bool:
        """Whether what the request costs counts against a budget."""
        return self.has_budget and bool(self.prices)

    @property
    def is_bounded(self) -> bool:
        """Whether anything counts on the bounds of its tokens."""
        return self.has_budget or self.has_token_limit


BillingOf: TypeAlias = Callable[[], Billing]
"""Looks it up, for the few requests that need it."""
NOTHING: BillingOf = Billing
"""Nothing is at stake."""


def limits_of_owners(caller: Caller, config: Snapshot) -> Iterator[Limits]:
    """The limits of key, user, project and organization, in this order."""
    owners = (
        config.keys.get(caller.key_id),
        config.users.get(caller.user or ""),
        config.projects.get(caller.project or ""),
        config.organizations.get(caller.org),
    )
    return (owner.limits for owner in owners if owner is not None)


def billing_of(snapshot: Snapshot, caller: Caller, model: str) -> Billing:
    """What is at stake for the caller of a model."""
    org = snapshot.organizations.get(caller.org)
    is_asked = org is not None and org.budget_service is not None
    limits, listed = tuple(limits_of_owners(caller, snapshot)), snapshot.prices.get(model)
    return Billing(
        prices=tuple(price for _, price in listed.entries) if listed else (),
        has_budget=is_asked or any(each.budgets for each in limits),
        has_token_limit=any(
            each.tokens_per_min or any(quota.unit == "tokens" for quota in each.quotas)
            for each in limits
        ),
    )
