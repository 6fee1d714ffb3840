"""Idempotency keys: one execution for equal requests, whatever their number, time and order."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Mapping

import pytest

from tests.support.harness.gateway_client import MODEL, GatewayClient, Reply, steer
from tests.support.harness.grants import Grant, MakeKey
from tests.support.harness.oracle import Oracle

pytestmark = pytest.mark.timeout(60, func_only=True)
POSTS_AT_ONCE = 30


@pytest.fixture(scope="module")
def grant(make_key: MakeKey) -> Grant:
    return make_key("idempotency-org")


async def _chat(
    client: GatewayClient,
    grant: Grant,
    content: str,
    headers: Mapping[str, str],
    *,
    stream: bool = False,
) -> Reply:
    body = {"model": MODEL, "messages": [{"role": "user", "content": content}], "stream": stream}
    return await client.post("/chat/completions", grant.key, body, headers)


def _fresh_key() -> dict[str, str]:
    return {"Idempotency-Key": uuid.uuid4().hex}


def _is_replayed(reply: Reply) -> bool:
    return reply.headers.get("idempotent-replayed") == "true"


async def test_equal_posts_at_once_are_one_call(
    client: GatewayClient, grant: Grant, oracle: Oracle
) -> None:
    """All get the same answer, under the id of the one request that ran."""
    key, content = _fresh_key(), steer(delay_ms=1_000, output_tokens=5)
    before = len(oracle.calls())

    replies = await asyncio.gather(
        *(_chat(client, grant, content, key) for _ in range(POSTS_AT_ONCE))
    )

    assert {reply.status for reply in replies} == {200}, replies[0].body
    assert len({reply.body for reply in replies}) == 1
    assert len({reply.request_id for reply in replies}) == 1
    assert sum(not _is_replayed(reply) for reply in replies) == 1
    assert len(oracle.calls()) == before + 1


async def test_a_finished_request_is_replayed(
    client: GatewayClient, grant: Grant, oracle: Oracle
) -> None:
    """Same status, body and cost, for the quoted form of the key too."""
    key = uuid.uuid4().hex
    first = await _chat(client, grant, "alpha beta", {"Idempotency-Key": key})
    second = await _chat(client, grant, "alpha beta", {"Idempotency-Key": f'"{key}"'})

    assert (first.status, _is_replayed(first)) == (200, False)
    assert (second.status, _is_replayed(second)) == (200, True)
    assert (second.body, second.cost_usd) == (first.body, first.cost_usd)
    assert len(oracle.calls_of([first.request_id])) == 1
    assert second.request_id == first.request_id


async def test_a_stream_is_joined_and_replayed_from_its_beginning(
    client: GatewayClient, grant: Grant, oracle: Oracle
) -> None:
    """Byte for byte, while it runs and after it has ended."""
    key, content = _fresh_key(), steer(chunks=6, delay_ms=150, output_tokens=12)
    running = asyncio.create_task(_chat(client, grant, content, key, stream=True))
    await asyncio.sleep(0.4)
    joined = await _chat(client, grant, content, key, stream=True)
    first = await running
    replayed = await _chat(client, grant, content, key, stream=True)

    assert first.status == 200, first.body
    assert first.events[-1] == "[DONE]"
    assert joined.body == first.body == replayed.body
    assert [_is_replayed(r) for r in (first, joined, replayed)] == [False, True, True]
    assert len(oracle.calls_of([first.request_id])) == 1


async def test_a_stream_goes_on_after_the_last_event_that_its_client_has(
    client: GatewayClient, grant: Grant, oracle: Oracle
) -> None:
    """Without a key too, as often as it breaks, and is one call."""
    first = await _chat(client, grant, steer(chunks=4, output_tokens=8), {}, stream=True)
    ids = [line[4:] for line in first.body.splitlines() if line.startswith("id: ")]
    for event_id in (ids[0], ids[-1]):
        seen, _, rest = first.body.partition(f"id: {event_id}\n\n")
        resumed = await _chat(client, grant, "x", {"Last-Event-ID": event_id}, stream=True)
        assert (resumed.status, _is_replayed(resumed)) == (200, True), resumed.body
        assert (resumed.body, resumed.request_id) == (rest, first.request_id)
        assert seen
    assert len(ids) == len(set(ids)) > 4
    assert len(oracle.calls_of([first.request_id])) == 1


async def test_who_does_not_want_to_wait_is_told_so(client: GatewayClient, grant: Grant) -> None:
    """409 with a hint when to ask again, and the first request goes on."""
    key, content = _fresh_key(), steer(delay_ms=1_500, output_tokens=2)
    running = asyncio.create_task(_chat(client, grant, content, key))
    await asyncio.sleep(0.5)
    reply = await _chat(client, grant, content, {**key, "Prefer": "wait=0"})

    assert reply.status == 409, reply.body
    assert reply.json["error"]["code"] == "idempotency_in_flight"
    assert int(reply.headers["retry-after"]) >= 1
    assert (await running).status == 200


async def test_a_key_belongs_to_one_body_and_one_route(
    client: GatewayClient, grant: Grant, oracle: Oracle
) -> None:
    """422 for another body, whatever its fields' order; another route is another request."""
    key = _fresh_key()
    first = await _chat(client, grant, "one", key)
    reordered = {"messages": [{"content": "one", "role": "user"}], "stream": False, "model": MODEL}
    same = await client.post("/chat/completions", grant.key, reordered, key)
    other = await _chat(client, grant, "two", key)
    body = {"request_id": str(uuid.uuid4()), "model": MODEL, "payload": "one"}
    elsewhere = await client.post("/inference", grant.key, body, key)

    assert (first.status, same.status, same.body) == (200, 200, first.body)
    assert other.status == 422
    assert other.json["error"]["code"] == "idempotency_key_reused"
    assert elsewhere.status == 200
    assert len(oracle.calls_of([first.request_id])) == 1


async def test_a_request_id_of_the_native_route_is_executed_once(
    client: GatewayClient, grant: Grant, oracle: Oracle
) -> None:
    """Without any header; the same id with another payload is a mistake of the client."""
    mine = str(uuid.uuid4())
    first, second = await asyncio.gather(
        client.infer(grant.key, "gamma", request_id=mine),
        client.infer(grant.key, "gamma", request_id=mine),
    )
    other = await client.infer(grant.key, "delta", request_id=mine)

    assert (first.status, second.status) == (200, 200), first.body
    assert first.body == second.body
    assert len(oracle.calls_of([first.request_id, second.request_id])) == 1
    assert (other.status, other.json["code"]) == (422, "idempotency_key_reused")


async def test_a_key_of_another_organization_is_another_key(
    client: GatewayClient, grant: Grant, make_key: MakeKey
) -> None:
    """Nobody can see or block another's requests."""
    stranger, key = make_key("idempotency-stranger"), _fresh_key()
    first = await _chat(client, grant, "mine", key)
    second = await _chat(client, stranger, "theirs", key)

    assert (first.status, second.status) == (200, 200)
    assert not _is_replayed(second)


async def test_a_refusal_gives_the_key_back(client: GatewayClient, make_key: MakeKey) -> None:
    """The next try with the same key is a new request, which now fits."""
    slow = make_key("idempotency-rate", {"requests_per_s": 1, "burst": 1})
    key = _fresh_key()
    await _chat(client, slow, "spend the burst", {})
    refused = await _chat(client, slow, "again", key)
    await asyncio.sleep(1.2)
    accepted = await _chat(client, slow, "again", key)

    assert refused.status == 429, refused.body
    assert (accepted.status, _is_replayed(accepted)) == (200, False), accepted.body
    assert accepted.request_id != refused.request_id


async def test_a_failure_that_cost_nothing_gives_the_key_back(
    client: GatewayClient, grant: Grant
) -> None:
    """A retry calls a backend again instead of repeating the error for a day."""
    key, content = _fresh_key(), steer(mode="500")
    first = await _chat(client, grant, content, key)
    second = await _chat(client, grant, content, key)

    assert (first.status, second.status) == (502, 502), first.body
    assert not _is_replayed(second)
    assert second.request_id != first.request_id


async def test_a_client_that_left_finds_its_answer_under_its_key(
    client: GatewayClient, grant: Grant, oracle: Oracle
) -> None:
    """A key says that the answer is wanted, so a lost connection cancels nothing."""
    key, content = _fresh_key(), steer(delay_ms=1_000, output_tokens=3)
    leaving = asyncio.create_task(_chat(client, grant, content, key))
    await asyncio.sleep(0.4)
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    reply = await _chat(client, grant, content, key)

    assert (reply.status, _is_replayed(reply)) == (200, True), reply.body
    assert len(reply.text.split()) == 3
    assert len(oracle.calls_of([reply.request_id])) == 1


@pytest.mark.parametrize("key", ["", "two words", "ä", "x" * 256, '""'])
async def test_a_malformed_key_is_refused(client: GatewayClient, grant: Grant, key: str) -> None:
    """400 that names the header."""
    reply = await _chat(client, grant, "hello", {"Idempotency-Key": key})

    assert reply.status == 400
    assert json.loads(reply.body)["error"]["param"] == "Idempotency-Key"
