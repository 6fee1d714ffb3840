"""The tenants whose limits bind: what they ask of the gateway is valid, and a breach is seen."""

from __future__ import annotations

import msgspec
import pytest

from schemas.entities import Limits
from tests.chaos.ceilings import Tenant, tight_tenants


@pytest.mark.parametrize("tenant", tight_tenants(), ids=lambda tenant: tenant.org)
def test_each_limit_is_one_that_the_gateway_knows(tenant: Tenant) -> None:
    """A body that were refused would leave the organization without its limit."""
    limits = msgspec.convert(tenant.limits, Limits)

    stated = (limits.budgets, limits.quotas, limits.concurrency)
    assert sum(map(bool, stated)) == 1


@pytest.mark.parametrize(
    ("settled", "reserved", "is_breach"),
    [(60, 40, False), (0, 100, False), (60, 41, True), (101, 0, True), (50, -1, True)],
)
def test_more_than_the_limit_is_a_breach(settled: int, reserved: int, is_breach: bool) -> None:
    """What is held counts as what is spent; less than nothing held is wrong as well."""
    tenant = Tenant("org", "tokens", 100)

    assert bool(tenant.breach(settled, reserved)) is is_breach
