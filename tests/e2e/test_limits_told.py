"""What a caller may still use: told before it is refused, in the figures that the refusal then has."""

from __future__ import annotations

import json
import time
from decimal import Decimal
from typing import Any

import httpx
import openai
import pytest

from tests.support.harness.gateway_client import MODEL
from tests.support.harness.grants import Grant, MakeKey
from tests.support.harness.oracle import Oracle, cost_nano_usd
from tests.support.harness.running_stack import RunningStack

pytestmark = pytest.mark.timeout(60, func_only=True)

SETTLED_WITHIN_S = 15.0
LIMITS = {
    "budgets": [{"usd": "1", "period": "month"}],
    "quotas": [{"unit": "requests", "amount": 2, "period": "day"}],
    "concurrency": 7,
}


def _told(stack: RunningStack, key: str) -> dict[str, dict[str, Any]]:
    """By id; money as it is written, for a float would round it."""
    headers = {"Authorization": f"Bearer {key}"}
    answer = httpx.get(f"{stack.api_url}/limits", headers=headers, timeout=30, trust_env=False)
    data = json.loads(answer.raise_for_status().content, parse_float=Decimal)["data"]
    return {limit["id"]: limit for limit in data}


def _amounts(limit: dict[str, Any]) -> tuple[Any, ...]:
    return limit["limit"], limit["used"], limit["held"], limit["remaining"]


def _ask(stack: RunningStack, key: str, word: str) -> httpx.Response:
    headers = {"Authorization": f"Bearer {key}"}
    body = {"model": MODEL, "prompt": word}
    url = f"{stack.api_url}/completions"
    return httpx.post(url, json=body, headers=headers, timeout=30, trust_env=False)


def _once_settled(stack: RunningStack, key: str) -> dict[str, dict[str, Any]]:
    """What is told once nothing is under way any more."""
    until_s = time.monotonic() + SETTLED_WITHIN_S
    while True:
        told = _told(stack, key)
        if not any(limit["held"] for limit in told.values()):
            return told
        assert time.monotonic() < until_s
        time.sleep(0.05)


def test_what_is_left_is_told_to_the_nano_dollar(
    stack: RunningStack, make_key: MakeKey, oracle: Oracle
) -> None:
    """Used once it ended, by the backend's own log, and what is refused afterwards had nothing left."""
    grant = make_key("told-org", LIMITS)
    before = _told(stack, grant.key)
    replies = [_ask(stack, grant.key, word) for word in ("a b", "c")]
    after = _once_settled(stack, grant.key)
    refused = _ask(stack, grant.key, "d")

    assert [reply.status_code for reply in (*replies, refused)] == [200, 200, 402]
    ids = [reply.headers["x-request-id"] for reply in replies]
    cost_usd = Decimal(sum(map(cost_nano_usd, oracle.calls_of(ids)))) * Decimal("1e-9")
    assert _amounts(before["org:budget:month"]) == (1, 0, 0, 1)
    assert _amounts(before["org:concurrency"]) == (7, 0, 0, 7)
    assert _amounts(after["org:budget:month"]) == (1, cost_usd, 0, 1 - cost_usd)
    assert _amounts(after["org:quota:requests:day"]) == (2, 2, 0, 0)
    assert _amounts(_told(stack, grant.key)["org:quota:requests:day"]) == (2, 2, 0, 0)


def test_a_neighbour_is_told_its_own(stack: RunningStack, make_key: MakeKey) -> None:
    """Nothing of an organization that states no budget, and nobody's without a key."""
    grant: Grant = make_key("told-neighbour")
    told = _told(stack, grant.key)
    answer = httpx.get(f"{stack.api_url}/limits", timeout=30, trust_env=False)

    assert {limit["kind"] for limit in told.values()} <= {"requests_per_s", "concurrency"}
    assert all(limit["used"] == limit["held"] == 0 for limit in told.values())
    assert answer.status_code == 401


def test_a_model_is_found_by_a_name_with_slashes(
    stack: RunningStack, admin: httpx.Client, make_key: MakeKey
) -> None:
    """As the openai package asks for it, which leaves slashes out of its escapes or does not; 404 for one that is closed
    to the key, in OpenAI's words."""
    name = "meta/llama-3/told"
    model = {"backends": [{"backend": "fake-a"}]}
    admin.put("/models/meta%2Fllama-3%2Ftold", json=model).raise_for_status()
    grant = make_key("told-models")
    body = {"org": grant.org, "name": "narrow", "models": [MODEL]}
    narrow = admin.post("/keys", json=body).raise_for_status().json()["key"]
    with openai.OpenAI(base_url=stack.api_url, api_key=grant.key, max_retries=0) as sdk:
        assert sdk.models.retrieve(name).id == name
        assert sdk.models.retrieve(MODEL).id == MODEL
    with openai.OpenAI(base_url=stack.api_url, api_key=narrow, max_retries=0) as sdk:
        assert sdk.models.retrieve(MODEL).id == MODEL
        for unknown in (name, "no-such"):
            with pytest.raises(openai.NotFoundError) as refused:
                sdk.models.retrieve(unknown)
            assert refused.value.code == "model_not_found"
