"""What became of a request, told to whoever made it: from the ledger, from the log, and to nobody else."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from schemas.ids import uuid7
from tests.support.harness.foreign_store import open_foreign
from tests.support.harness.gateway_client import GatewayClient, Reply, steer
from tests.support.harness.grants import MakeKey
from tests.support.harness.ledger_view import key_of
from tests.support.harness.oracle import Oracle, cost_nano_usd
from tests.support.harness.running_stack import RunningStack

pytestmark = pytest.mark.timeout(60, func_only=True)

BOOKED_WITHIN_S = 15.0


async def _told(client: GatewayClient, key: str, request_id: str, more: str = "") -> Any:
    reply = await client.get(f"/requests/{request_id}{more}", key)
    assert reply.status == 200, reply.body
    return reply.json


async def _once_booked(client: GatewayClient, key: str, request_id: str) -> dict[str, Any]:
    """Its records, once accounting has written its usage line."""
    until_s = time.monotonic() + BOOKED_WITHIN_S
    while True:
        events: dict[str, Any] = await _told(client, key, request_id, "/events")
        if any(each["what"] == "usage" for each in events["data"]):
            return events
        assert time.monotonic() < until_s, events
        await asyncio.sleep(0.1)


async def _past_its_deadline(told: dict[str, Any]) -> None:
    """Until then the ledger never forgets."""
    await asyncio.sleep(max(0.0, told["deadline_ms"] / 1_000 - time.time()) + 0.2)


def _forget(stack: RunningStack, org: str, request_id: str) -> None:
    """As the ledger does a quarter of an hour past the deadline."""
    with open_foreign(stack.ledger_url) as store:
        assert store.delete(key_of(org, f"a:{request_id}")) == 1


async def test_what_became_of_a_request_is_told_while_the_log_has_it(
    client: GatewayClient, stack: RunningStack, make_key: MakeKey, oracle: Oracle
) -> None:
    """The same once the ledger has forgotten it; cost and tokens are those of the backend's own log."""
    grant = make_key("own-requests")
    body = {"model": "fake-1", "messages": [{"role": "user", "content": "count me"}]}
    reply = await client.post("/chat/completions", grant.key, body, {"X-Request-Timeout": "3"})
    at_once = await _told(client, grant.key, reply.request_id)
    events = await _once_booked(client, grant.key, reply.request_id)
    await _past_its_deadline(at_once)
    _forget(stack, grant.org, reply.request_id)
    later = await _told(client, grant.key, reply.request_id)

    (call,) = oracle.calls_of([reply.request_id])
    assert at_once == later
    assert (later["status"], later["model"], later["key_id"]) == (
        "completed",
        "fake-1",
        grant.key_id,
    )
    assert later["usage"]["prompt_tokens"] == call.prompt_tokens
    assert later["cost_usd"] == f"{cost_nano_usd(call) * 1e-9:.9f}" == str(reply.cost_usd)
    assert [each["what"] for each in events["data"]] == [
        "accepted", "admitted", "attempt", "finished", "usage",
    ]  # fmt: skip
    assert await _told(client, grant.key, reply.request_id, "/events") == events
    assert events["is_complete"]


async def test_a_stranger_and_a_guess_are_told_the_same(
    client: GatewayClient, make_key: MakeKey
) -> None:
    """Whoever knows another organization's id learns nothing by it, in no form."""
    mine, stranger = make_key("own-mine"), make_key("own-stranger")
    reply = await client.chat(mine.key, "mine")
    guess = uuid7(time.time_ns() // 1_000_000 - 1_000, bytes(10))
    told = [
        await client.get(f"/requests/{request_id}{more}", stranger.key)
        for more in ("", "/events", "?payload=true")
        for request_id in (reply.request_id, guess)
    ]

    assert {each.status for each in told} == {404}
    assert len({each.body.replace(each.request_id, "") for each in told}) == 1


async def test_texts_are_shown_to_the_key_that_sent_them(
    client: GatewayClient, admin: Any, make_key: MakeKey
) -> None:
    """Another key of the organization knows that it ran, and not what it said."""
    grant = make_key("own-texts")
    made = admin.post("/keys", json={"org": grant.org, "name": "second"}).raise_for_status().json()
    keyed = {"Idempotency-Key": "own-texts"}
    body = {"model": "fake-1", "messages": [{"role": "user", "content": "a secret"}]}
    reply = await client.post("/chat/completions", grant.key, body, keyed)
    shown = await _told(client, grant.key, reply.request_id, "?payload=true")
    other = await client.get(f"/requests/{reply.request_id}?payload=true", made["key"])

    assert shown["payload"]["messages"] == body["messages"]
    assert shown["result"] == reply.json
    assert "secret" not in str(await _told(client, grant.key, reply.request_id))
    assert (await _told(client, made["key"], reply.request_id))["status"] == "completed"
    assert (other.status, "secret" in other.body) == (403, False)


async def test_a_refusal_and_one_under_way_are_told_too(
    client: GatewayClient, make_key: MakeKey
) -> None:
    """By which limit; and of what still runs, that it runs."""
    limits = {"quotas": [{"unit": "requests", "amount": 1, "period": "day"}]}
    grant = make_key("own-refused", limits)
    running = asyncio.create_task(client.chat(grant.key, steer(delay_ms=1_500)))
    await asyncio.sleep(0.5)
    refused = await client.chat(grant.key, "too much")
    told = await _told(client, grant.key, refused.request_id)
    answered = await running

    assert refused.status in (402, 429)
    assert (told["status"], told["refused_by"]) == ("refused", "org:quota:requests:day")
    assert (told["http_status"], told["attempts"]) == (refused.status, [])
    assert told["error"]["limit_type"] == "quota"
    assert (await _told(client, grant.key, answered.request_id))["status"] == "completed"


async def test_hammering_is_refused_and_a_neighbour_is_looked_up_all_the_same(
    client: GatewayClient, make_key: MakeKey
) -> None:
    """Few look-ups of an organization wait; the others hear 429 with when to come back."""
    loud, quiet = make_key("own-loud"), make_key("own-quiet")
    reply = await client.chat(quiet.key, "hush")
    guess = uuid7(time.time_ns() // 1_000_000 - 1_000, b"0123456789")
    flood = [asyncio.create_task(client.get(f"/requests/{guess}", loud.key)) for _ in range(60)]
    told = await _told(client, quiet.key, reply.request_id, "/events")
    answers: list[Reply] = await asyncio.gather(*flood)

    assert told["data"]
    assert {each.status for each in answers} == {404, 429}
    assert all("retry-after-ms" in each.headers for each in answers if each.status == 429)
