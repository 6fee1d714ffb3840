"""What is at stake for a caller: whose limits count money or tokens."""

from __future__ import annotations

import pytest

from ingress.auth.billing import Billing, billing_of
from ingress.auth.caller import Caller
from schemas.config_state import Snapshot
from schemas.entities import Budget, Limits, Organization, Project, Quota, User
from schemas.pricing.entries import Price
from schemas.pricing.price_list import price_list

_PRICES = price_list("m@1", (Price(input_usd_per_mtok="1", output_usd_per_mtok="2"),), {})
_CALLER = Caller("key_a", "acme", "p", "u", None)


def _billing(project: Limits = Limits(), model: str = "m") -> Billing:  # noqa: B008  # frozen
    config = Snapshot(
        organizations={"acme": Organization()},
        projects={"p": Project(org="acme", limits=project)},
        users={"u": User(org="acme")},
        prices={"m": _PRICES},
    )
    return billing_of(config, _CALLER, model)


def test_nothing_is_at_stake_without_limits() -> None:
    """Whatever the model costs."""
    assert (_billing().is_budgeted, _billing().is_bounded) == (False, False)


def test_a_budget_needs_a_price() -> None:
    """Of whichever owner; it bounds tokens in any case."""
    budget = Limits(budgets=(Budget(usd="1", period="day"),))

    assert (_billing(budget).is_budgeted, _billing(budget).is_bounded) == (True, True)
    assert (_billing(budget, "free").is_budgeted, _billing(budget, "free").is_bounded) == (
        False,
        True,
    )


@pytest.mark.parametrize(
    ("limits", "is_bounded"),
    [
        (Limits(tokens_per_min=5), True),
        (Limits(quotas=(Quota(amount=5, unit="tokens", period="day"),)), True),
        (Limits(quotas=(Quota(amount=5, unit="requests", period="day"),)), False),
        (Limits(requests_per_s=5), False),
    ],
)
def test_limits_of_tokens_count_on_bounds(limits: Limits, is_bounded: bool) -> None:  # a case
    """Those of requests do not."""
    assert _billing(limits).is_bounded is is_bounded
