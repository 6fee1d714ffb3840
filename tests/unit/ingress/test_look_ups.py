"""How often an organization may ask what asks no model, and what becomes of who asks without a pause."""

from __future__ import annotations

import asyncio
import re
import time

import pytest

from deploy.reference.openapi.contract import RouteContract
from deploy.reference.openapi.public_routes import public_routes
from ingress.gatekeeper import look_ups
from ingress.gatekeeper.look_ups import LookUps
from ingress.settings import IngressSettings
from schemas.ids import uuid7
from schemas.operations import OPERATIONS
from tests.support.configuration import NOW_MS
from tests.support.gateway import Gateway

_DEFAULT: float = IngressSettings.model_fields["look_ups_per_s"].default
_ASKED = {row.path for row in OPERATIONS.values()}
_LOOK_UPS = [
    route
    for route in public_routes()
    if not route.is_open
    and "count_tokens" not in route.path
    and not (route.method == "POST" and route.path in _ASKED)
]


def test_fifty_workers_that_poll_every_second_never_meet_it() -> None:
    """All at the same moment, for a minute, beside twenty look-ups a second of others."""
    rates = LookUps(_DEFAULT)

    waits = [
        rates.wait_s("acme", second + tenth / 10)
        for second in range(60)
        for tenth in range(10)
        for _ in range(52 if tenth == 0 else 2)
    ]

    assert not any(waits)


def test_who_asks_more_often_is_told_when_the_next_may_come_and_nobody_else_is() -> None:
    """Each a turn of its own."""
    rates = LookUps(8)
    for _ in range(16):
        assert not rates.wait_s("loud", 0.0)

    assert [rates.wait_s("loud", 0.0) for _ in range(3)] == [0.125, 0.25, 0.375]
    assert not rates.wait_s("quiet", 0.0)
    assert not rates.wait_s("loud", 0.5)


def test_a_hundred_thousand_organizations_take_no_more_room_than_twenty_thousand() -> None:
    """Who has not come for longest has its full bucket again."""
    rates = LookUps(1)
    for number in range(100_000):
        assert not rates.wait_s(f"org-{number}", number / 1_000)

    assert len(rates._buckets._states) == rates._buckets.names_max == 20_000


async def test_a_refusal_is_told_when_the_next_may_come_or_after_a_second() -> None:
    """So that who asks again without a pause is no faster than who heeds it; what is left to wait is told."""
    began_s = time.monotonic()
    soon, late = await asyncio.gather(LookUps(10).refusal(0.1), LookUps(10).refusal(3.0))

    assert 1.0 <= time.monotonic() - began_s < 2.0
    assert soon.denial is not None
    assert late.denial is not None
    assert (soon.denial.limit_id, soon.denial.limit) == ("org:look_ups_per_s", 10)
    assert late.denial.retry_after_ms == 2_000


async def test_what_is_beyond_the_refusals_that_are_held_is_told_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Their number is bounded; who is gone is not counted."""
    monkeypatch.setattr(look_ups, "_HELD_MAX", 1)
    rates = LookUps(10)
    held = asyncio.create_task(rates.refusal(60.0))
    await asyncio.sleep(0)

    async with asyncio.timeout(0.5):
        refused = await rates.refusal(60.0)
    held.cancel()
    await asyncio.gather(held, return_exceptions=True)

    assert refused.denial is not None
    assert refused.denial.retry_after_ms == 60_000
    assert rates._held == 0


@pytest.mark.parametrize("route", _LOOK_UPS, ids=[route.name for route in _LOOK_UPS])
async def test_every_route_that_asks_no_model_has_the_rate_and_no_other_organization_feels_it(
    route: RouteContract, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A 429 as all are: with its code, when to come back, twice, and told to the auditors."""
    monkeypatch.setattr(look_ups, "_HELD_S_MAX", 0.0)
    gateway = Gateway(look_ups_per_s=0.5)
    path = re.sub(r"\{\w+\}", uuid7(NOW_MS - 1_000, bytes(10)), route.path)
    answers = [await gateway.client.request(route.method, path) for _ in range(2)]
    told = gateway.gatekeeper.tally.take()

    first, second = answers
    assert first.status_code != 429
    assert second.status_code == 429
    assert second.headers["retry-after"] == "2"
    assert 1_000 < int(second.headers["retry-after-ms"]) <= 2_000
    assert "rate_limit_exceeded" in second.text.lower()
    assert "org:look_ups_per_s" in told[-1].detail
    assert not gateway.gatekeeper.look_ups.wait_s("other", 0.0)
