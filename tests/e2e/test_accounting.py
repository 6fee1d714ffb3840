"""Every request has one outcome, every backend call one usage line, and the sums are the backend's.

The oracle is the backends' own log; the topics are read with foreign tools.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal

import httpx
import pytest

from tests.support.fakes.call_log import Call
from tests.support.harness.gateway_client import CONNECTIONS, GatewayClient, Reply, steer
from tests.support.harness.grants import Grant, MakeKey
from tests.support.harness.kafka_log import KafkaLog, LogRecord
from tests.support.harness.oracle import Oracle, cost_nano_usd

pytestmark = pytest.mark.timeout(150, func_only=True)
ORGS = 20
REQUESTS = 1_000
EVERY_NTH_FAILS = 50
CATCH_UP_S = 45.0
NANO = Decimal("1e-9")


@dataclass(frozen=True)
class Exchange:
    """One request of the mix, and what came back."""

    org: str
    is_stream: bool
    fails: bool
    reply: Reply


async def _send_mix(client: GatewayClient, grants: list[Grant]) -> list[Exchange]:
    """1 000 requests over all orgs: plain, streams with and without usage, some that fail."""
    gate = asyncio.Semaphore(CONNECTIONS)

    async def send(number: int) -> Exchange:
        grant = grants[number % ORGS]
        is_stream, fails = number % 2 == 1, number % EVERY_NTH_FAILS == 0
        content = steer(mode="500") if fails else f"request number {number} of the mix"
        asked: dict[str, object] = {"stream": is_stream, "max_tokens": 40}
        if number % 4 == 1:
            asked["stream_options"] = {"include_usage": True}
        async with gate:
            reply = await client.chat(grant.key, content, **asked)
        return Exchange(grant.org, is_stream, fails, reply)

    return await asyncio.gather(*(send(number) for number in range(REQUESTS)))


def _by_request(records: Iterable[LogRecord], orgs: set[str]) -> dict[str, list[LogRecord]]:
    grouped: dict[str, list[LogRecord]] = defaultdict(list)
    for record in records:
        if record.value["org"] in orgs:
            assert record.key == record.value["org"]
            grouped[record.value["request_id"]].append(record)
    return grouped


def _assert_client_was_told_the_truth(exchange: Exchange, call: Call) -> None:
    reply = exchange.reply
    assert reply.status == 200, reply.body
    assert call.end is not None
    assert hashlib.sha256(reply.text.encode()).hexdigest() == call.end.text_sha256
    assert reply.cost_usd == cost_nano_usd(call) * NANO
    if reply.usage is not None:
        told = (reply.usage["prompt_tokens"], reply.usage["completion_tokens"])
        assert told == (call.prompt_tokens, call.completion_tokens)
    if exchange.is_stream:
        assert reply.events[-1] == "[DONE]"


def _assert_lines_match_calls(lines: list[LogRecord], calls: list[Call]) -> None:
    """One line per call; tokens and cost as the backend counted them."""
    assert len({line.value["usage_id"] for line in lines}) == len(lines) == len(calls)
    booked = Counter(
        (line.value["input_tokens"], line.value["output_tokens"], line.value["cost_nano_usd"])
        for line in lines
    )
    spent = Counter(
        (call.prompt_tokens, call.completion_tokens, cost_nano_usd(call)) for call in calls
    )
    assert booked == spent
    assert not any(line.value["estimated"] for line in lines)


def _event(name: str, source: str) -> tuple[str, str, str, str]:
    """What a record says of itself to a consumer that knows CloudEvents and nothing of us."""
    return "1.0", f"dev.tallygate.{name}.v1", f"/tallygate/{source}", "application/avro"


async def test_outcomes_usage_and_ledger_equal_the_backends_log(
    client: GatewayClient,
    make_key: MakeKey,
    oracle: Oracle,
    kafka_log: KafkaLog,
    admin: httpx.Client,
) -> None:
    """1 000 mixed requests of 20 orgs at 100 connections: nothing lost, doubled or miscounted."""
    grants = [make_key(f"accounting-{number}") for number in range(ORGS)]
    orgs = {grant.org for grant in grants}
    exchanges, meanwhile = await asyncio.gather(
        _send_mix(client, grants),
        asyncio.to_thread(admin.get, "/ledger/verify", params={"deadline_s": 20}, timeout=60),
    )
    # A ledger that is never still is compared exactly: what is under way is no difference.
    verdict = meanwhile.raise_for_status().json()
    assert (verdict["difference"], {s["state"] for s in verdict["shards"]}) == (0, {"equal"})
    ids = {exchange.reply.request_id for exchange in exchanges}
    calls: dict[str, list[Call]] = defaultdict(list)
    for call in oracle.calls_of(ids):
        calls[call.start.request_id or ""].append(call)

    assert len(ids) == REQUESTS
    for exchange in exchanges:
        if exchange.fails:
            assert exchange.reply.status == 502, exchange.reply.body
        else:
            (call,) = calls[exchange.reply.request_id]
            _assert_client_was_told_the_truth(exchange, call)

    outcomes = _by_request(
        kafka_log.read(
            "inference.outcomes.v1",
            lambda records: len(_by_request(records, orgs)) >= REQUESTS,
            CATCH_UP_S,
        ),
        orgs,
    )
    assert outcomes.keys() == ids
    for exchange in exchanges:
        (outcome,) = outcomes[exchange.reply.request_id]
        assert outcome.schema == "RequestFinished"
        assert outcome.value["status"] == ("failed" if exchange.fails else "completed")
        assert outcome.value["http_status"] == exchange.reply.status
        assert outcome.value["org"] == exchange.org
        assert outcome.event == _event("request.finished", "dispatcher")

    backend_calls = sum(len(of_request) for of_request in calls.values())
    usage = _by_request(
        kafka_log.read(
            "usage.records.v1",
            lambda records: sum(map(len, _by_request(records, orgs).values())) >= backend_calls,
            CATCH_UP_S,
        ),
        orgs,
    )
    assert usage.keys() == calls.keys()
    for request_id, lines in usage.items():
        _assert_lines_match_calls(lines, calls[request_id])
        assert {line.event for line in lines} == {_event("usage.recorded", "accounting")}

    verdict = await asyncio.to_thread(admin.get, "/ledger/verify", params={"deadline_s": 20})
    assert verdict.raise_for_status().json()["difference"] == 0, verdict.text
