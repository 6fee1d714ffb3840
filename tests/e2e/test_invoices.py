"""A backend that bills by code of its own, through the whole stack: what clients are told, budgets and usage tables
say what its invoices say, to the nano-USD.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import httpx
import pytest
from aiohttp import web

from tests.support.fakes.running_backend import RunningBackend
from tests.support.harness.gateway_client import GatewayClient, Reply
from tests.support.harness.grants import MakeKey
from tests.support.provider_bill import Use, invoice_nano_usd
from tests.support.scripted_backend import Answer, backend

pytestmark = pytest.mark.timeout(90, func_only=True)
NANO = Decimal("1e-9")
REQUESTS = 120
AT_ONCE = 12
OUTPUT_TOKENS = 400
BUDGET_USD = "0.5"
TIERS = ("default", "priority")
MODEL: dict[str, Any] = {
    "prices": [
        {
            "input_usd_per_mtok": "3.000001",
            "output_usd_per_mtok": "15",
            "cached_input_usd_per_mtok": "0.3",
            "reasoning_usd_per_mtok": "17.5",
            "request_usd": "0.001",
            "steps": [{"above_input_tokens": 90, "input_usd_per_mtok": "6", "output_usd_per_mtok": "22.5"}],
            "tiers": {"priority": {"multiplier": "1.75"}, "flex": {"multiplier": "0.5"}},
        },
        {"from": "9999-01-01", "input_usd_per_mtok": "1000", "output_usd_per_mtok": "1000"},
    ]
}  # fmt: skip


def _billing(model: dict[str, Any], invoices: dict[str, int]) -> Answer:
    """Uses up to what a body's length and limit bound, and keeps its invoice by the request's id."""
    rng = random.Random(7)

    async def answer(request: web.Request) -> web.StreamResponse:
        if request.method == "GET":
            return web.json_response({"object": "list", "data": []})
        most_input = len(await request.read())
        taken, made = rng.randint(1, most_input), rng.randint(1, OUTPUT_TOKENS)
        cached, thought = rng.randint(0, taken), rng.randint(0, made)
        tier = rng.choice(TIERS)
        use = Use(taken, made, {"cached_input": cached}, {"reasoning": thought})
        request_id = request.headers["x-request-id"]
        invoices[request_id] = invoice_nano_usd(model, "2026-11-26", tier, "billing", use)
        usage = {
            "prompt_tokens": taken,
            "completion_tokens": made,
            "total_tokens": taken + made,
            "prompt_tokens_details": {"cached_tokens": cached},
            "completion_tokens_details": {"reasoning_tokens": thought},
        }
        message = {"role": "assistant", "content": "42"}
        choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
        return web.json_response(
            {"id": "c1", "object": "chat.completion", "choices": choices, "usage": usage, "service_tier": tier}
        )  # fmt: skip

    return answer


async def _write(admin: httpx.Client, method: str, path: str, body: object) -> None:
    answer = await asyncio.to_thread(admin.request, method, path, json=body)
    answer.raise_for_status()


async def _booked(admin: httpx.Client, org: str, is_all: Callable[[dict[str, Any]], bool]) -> Any:
    """The usage report of the organization, once accounting has caught up."""
    total: dict[str, Any] = {}
    for _ in range(100):
        answer = await asyncio.to_thread(admin.get, "/usage", params={"by": "org", "org": org})
        total = answer.raise_for_status().json()["total"] or {}
        if total and is_all(total):
            break
        await asyncio.sleep(0.2)
    return total


async def test_every_cost_is_the_invoice_and_the_budget_holds(
    client: GatewayClient, admin: httpx.Client, make_key: MakeKey, backends: list[RunningBackend]
) -> None:
    """With steps, tiers that only the answer tells, cached input, reasoning, a fee and a region, at once."""
    invoices: dict[str, int] = {}
    model = MODEL | {"backends": [{"backend": "billing", "price_multiplier": "1.1"}]}
    async with backend(_billing(model, invoices)) as url:
        await _write(admin, "PUT", "/backends/billing", {"url": f"{url}/v1"})
        await _write(admin, "PUT", "/models/billed", model)
        grant = make_key("billed-org", {"budgets": [{"usd": BUDGET_USD, "period": "total"}]})
        gate = asyncio.Semaphore(AT_ONCE)

        async def ask(number: int) -> Reply:
            body = {
                "model": "billed",
                "messages": [{"role": "user", "content": "x" * (number % 50)}],
                "max_tokens": OUTPUT_TOKENS,
            }
            async with gate:
                return await client.post("/chat/completions", grant.key, body)

        replies = await asyncio.gather(*map(ask, range(REQUESTS)))
        served = [reply for reply in replies if reply.status == 200]
        total = await _booked(admin, grant.org, lambda told: told["requests"] == len(served))
        await _write(admin, "DELETE", "/models/billed", None)
        await _write(admin, "DELETE", "/backends/billing", None)

    assert {reply.status for reply in replies} <= {200, 402, 429}
    assert len(served) == len(invoices) > 20
    assert {reply.request_id: reply.cost_usd for reply in served} == {
        request_id: invoice * NANO for request_id, invoice in invoices.items()
    }
    assert total["cost_nano_usd"] == sum(invoices.values())
    assert sum(invoices.values()) * NANO <= Decimal(BUDGET_USD)
