"""Limits as a caller is told of them: its own, whatever they are called by, and what is left of each."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import pytest

from schemas.entities import Budget, Key, Limits, Organization, Project, Quota, User
from schemas.ids import api_key_hash
from schemas.ledger.documents import Admit, Balance, Rate
from tests.support.configuration import NOW_MS, PEPPER, SECRET, UNKNOWN_SECRET, snapshot
from tests.support.gateway import Gateway

_DAY_ENDS_S = 1_700_006_400
_MONTH_ENDS_S = 1_701_388_800
_OF_ORG = Limits(
    requests_per_s=10,
    burst=20,
    budgets=(Budget(usd="5", period="day"), Budget(usd="3", period="day")),
    quotas=(Quota(unit="tokens", amount=1_000, period="month"),),
)


def _gateway(org: Limits = _OF_ORG, key: Limits | None = None) -> Gateway:
    """One key of an organization, project and user, and one of another organization."""
    gateway, known = Gateway(), snapshot()
    mine = Key(
        org="acme", hash=api_key_hash(PEPPER, SECRET), display="", created_at_ms=0,
        project="p", user="u", limits=key or Limits(concurrency=2),
    )  # fmt: skip
    other = Key(org="other", hash=api_key_hash(PEPPER, UNKNOWN_SECRET), display="", created_at_ms=0)
    gateway.config.snapshot = replace(
        known,
        organizations={"acme": Organization(limits=org), "other": Organization()},
        projects={"p": Project(org="acme", limits=Limits(tokens_per_min=600))},
        users={"u": User(org="acme", limits=Limits(budgets=(Budget(usd="9", period="total"),)))},
        keys={"key_a": mine, "key_other": other},
        key_id_by_hash={mine.hash: "key_a", other.hash: "key_other"},
    )
    return gateway


async def _told(gateway: Gateway, **headers: str) -> dict[str, dict[str, Any]]:
    answer = await gateway.client.get("/v1/limits", headers=headers)
    assert answer.status_code == 200
    body = answer.json()
    assert body["object"] == "list"
    return {limit.pop("id"): limit for limit in body["data"]}


async def test_every_limit_of_the_caller_is_told() -> None:
    """Of the four scopes; of two budgets of one period the lower, and what nobody states as it is by default."""
    told = await _told(_gateway())

    assert {name: (each["kind"], each["unit"], each["limit"]) for name, each in told.items()} == {
        "org:requests_per_s": ("requests_per_s", "requests", 20),
        "project:tokens_per_min": ("tokens_per_min", "tokens", 600),
        "key:requests_per_s": ("requests_per_s", "requests", 200),
        "org:in_flight": ("concurrency", "requests", 256),
        "key:concurrency": ("concurrency", "requests", 2),
        "org:budget:day": ("budget", "usd", 3),
        "org:quota:tokens:month": ("quota", "tokens", 1_000),
        "user:budget:total": ("budget", "usd", 9),
    }
    assert {each["scope"] for each in told.values()} == {"org", "project", "key", "user"}
    assert all(each["remaining"] == each["limit"] for each in told.values())
    resets = {name: each["resets_at"] for name, each in told.items()}
    assert (resets["org:budget:day"], resets["org:quota:tokens:month"]) == (
        _DAY_ENDS_S,
        _MONTH_ENDS_S,
    )
    assert (resets["user:budget:total"], resets["key:concurrency"]) == (None, None)


async def test_what_is_held_and_charged_is_told_and_reading_changes_nothing() -> None:
    """USD with nine places; a bucket is full again when what it lacks has flowed in."""
    gateway = _gateway()
    rate = Rate(key="r:org/requests", id="org:requests_per_s", cost=4, burst=20, rate_milli_per_s=10_000)  # fmt: skip
    day = Balance(key="b:org/nano_usd:2023-11-14", unit="nano_usd", amount=1, start_ms=0, id="")
    gateway.ledger.model.admit(
        Admit(org="acme", req="r", deadline_ms=NOW_MS + 1_000, accepted_ms=NOW_MS,
              incarnation_ms=NOW_MS, rates=(rate,), balances=(day,)),
        NOW_MS * 1000,
    )  # fmt: skip
    told = await _told(gateway)
    budget, requests = told["org:budget:day"], told["org:requests_per_s"]

    assert (budget["used"], budget["held"], budget["remaining"]) == (0, 1e-9, 2.999999999)
    assert (requests["used"], requests["remaining"]) == (4, 16)
    assert requests["resets_at"] == NOW_MS // 1000 + 1
    assert await _told(gateway) == told


async def test_another_organization_sees_its_own() -> None:
    """With the defaults where it states nothing, and untouched by its neighbour's."""
    told = await _told(_gateway(), **{"x-api-key": UNKNOWN_SECRET})

    assert set(told) == {"org:requests_per_s", "key:requests_per_s", "org:in_flight"}
    assert all(each["used"] == each["held"] == 0 for each in told.values())


@pytest.mark.parametrize("is_gone", [True, False], ids=["organization gone", "ledger away"])
async def test_what_cannot_be_told_now_is_503(is_gone: bool) -> None:
    """As a problem of the native surface, never as limits of nothing."""
    gateway = _gateway()
    gateway.ledger.is_away = not is_gone
    if is_gone:
        gateway.config.snapshot = replace(gateway.config.snapshot, organizations={})

    answer = await gateway.client.get("/v1/limits")

    assert answer.status_code == 503
    assert answer.json()["code"] == "service_unavailable"


async def test_a_key_that_may_not_ask_models_is_told_nothing() -> None:
    """403; one without a key is 401."""
    gateway = _gateway()
    keys = dict(gateway.config.snapshot.keys)
    keys["key_a"] = msgspec.structs.replace(keys["key_a"], scopes=("models:read",))
    gateway.config.snapshot = replace(gateway.config.snapshot, keys=keys)

    assert (await gateway.client.get("/v1/limits")).status_code == 403
