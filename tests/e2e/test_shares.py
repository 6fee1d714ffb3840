"""One organization's jobs, its typos and its odd requests cost nobody else anything, nor all of itself."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Sequence

import httpx
import msgspec
import pytest
from confluent_kafka import Producer

from schemas.codec import encode
from schemas.events import RequestAccepted
from schemas.ids import uuid7
from schemas.runtime.process.clock import random_bytes
from tests.support.fakes.call_log import most_at_once
from tests.support.harness.gateway_client import MODEL, GatewayClient, Reply, steer
from tests.support.harness.grants import Grant, MakeKey
from tests.support.harness.kafka_log import KafkaLog, LogRecord
from tests.support.harness.ledger_view import LedgerView
from tests.support.harness.oracle import Oracle
from tests.support.harness.running_stack import RunningStack

pytestmark = pytest.mark.timeout(150, func_only=True)
JOBS = 600
JOB_PLACES = 192
"""Of the 256 that an organization without a stated concurrency has."""
PLACES = 256
DONE_WITHIN_S = 90.0
READ_WITHIN_S = 20.0


async def _post_jobs(crowd: GatewayClient, grant: Grant, content: str) -> list[str]:
    gate = asyncio.Semaphore(64)
    messages = [{"role": "user", "content": content}]

    async def post() -> str:
        async with gate:
            reply = await crowd.post("/jobs", grant.key, {"model": MODEL, "messages": messages})
        assert reply.status == 202, reply.body
        return str(reply.json["id"])

    return await asyncio.gather(*(post() for _ in range(JOBS)))


async def _until_called(oracle: Oracle, jobs: Sequence[str]) -> None:
    end_s = time.monotonic() + DONE_WITHIN_S
    while time.monotonic() < end_s:
        calls = oracle.calls_of(jobs)
        if len(calls) == len(jobs) and all(call.end for call in calls):
            return
        await asyncio.sleep(0.25)
    raise AssertionError(f"{len(oracle.calls_of(jobs))} of {len(jobs)} ran")


async def test_hundreds_of_jobs_all_run_while_others_are_served(
    crowd: GatewayClient, make_key: MakeKey, oracle: Oracle, ledger: LedgerView
) -> None:
    """Never more at once than their share; their own organization and others get answers meanwhile."""
    grant, other = make_key("shares-jobs"), make_key("shares-other")
    jobs = await _post_jobs(crowd, grant, steer(output_tokens=5, delay_ms=400))
    replies = []
    for number in range(20):
        replies.append(await crowd.chat(grant.key, f"own {number}"))
        replies.append(await crowd.chat(other.key, f"other {number}"))
    await _until_called(oracle, jobs)

    calls = oracle.calls_of(jobs)
    assert len(calls) == JOBS
    assert most_at_once(calls) <= JOB_PLACES
    assert Counter(reply.status for reply in replies) == {200: 40}
    held = await ledger.becomes_free(grant.org)
    assert not any(held.values()), held


async def test_an_organization_without_a_concurrency_has_a_share_of_what_runs(
    crowd: GatewayClient, make_key: MakeKey, oracle: Oracle, ledger: LedgerView
) -> None:
    """Whoever does not fit hears 429 with the facts of the limit, and when to come back."""
    grant = make_key("shares-places")
    slow = steer(output_tokens=5, delay_ms=1_500)
    replies: list[Reply] = await asyncio.gather(
        *(crowd.chat(grant.key, slow) for _ in range(PLACES + 100))
    )
    refused = [reply for reply in replies if reply.status == 429]

    calls = oracle.calls_of(reply.request_id for reply in replies)
    assert most_at_once(calls) <= PLACES
    assert refused
    for reply in refused:
        assert reply.json["error"]["code"] == "RATE_LIMIT_EXCEEDED"
        assert "org:in_flight" in reply.body
        assert int(reply.headers["retry-after"]) >= 1
    held = await ledger.becomes_free(grant.org)
    assert not any(held.values()), held


def _accepted(grant: Grant, **more: object) -> RequestAccepted:
    now_ms = time.time_ns() // 1_000_000
    fields: dict[str, object] = {
        "request_id": uuid7(now_ms, random_bytes(10)),
        "org": grant.org,
        "key_id": grant.key_id,
        "route": "chat.completions",
        "model": MODEL,
        "stream": False,
        "include_usage": False,
        "payload": b'{"messages":[{"role":"user","content":"by hand"}]}',
        "input_tokens_bound": 10,
        "output_tokens_bound": 10,
        "accepted_at_ms": now_ms,
        "deadline_ms": now_ms + 60_000,
        "produce_by_ms": now_ms + 60_000,
        "config_offset": 0,
    }
    return msgspec.convert(fields | more, RequestAccepted)


def _put_into_log(stack: RunningStack, request: RequestAccepted) -> None:
    producer = Producer({"bootstrap.servers": stack.kafka})
    headers: dict[str, str | bytes | None] = {"request_id": request.request_id.encode()}
    producer.produce("inference.requests.v1", encode(request), request.org, headers=headers)
    assert producer.flush(10) == 0


def _outcome(kafka_log: KafkaLog, request_id: str) -> LogRecord:
    def mine(records: list[LogRecord]) -> list[LogRecord]:
        return [record for record in records if record.value["request_id"] == request_id]

    found = kafka_log.read(
        "inference.outcomes.v1", lambda records: bool(mine(records)), READ_WITHIN_S
    )
    return mine(found)[0]


async def test_a_request_that_the_ledger_cannot_count_fails_alone(
    client: GatewayClient,
    stack: RunningStack,
    make_key: MakeKey,
    kafka_log: KafkaLog,
    admin: httpx.Client,
) -> None:
    """A bound beyond all numbers: an outcome and a dead letter for it, answers for its neighbours."""
    grant = make_key("shares-odd", {"quotas": [{"amount": 1, "unit": "tokens", "period": "day"}]})
    healthy = make_key("shares-odd-neighbour")
    odd = _accepted(grant, input_tokens_bound=2**63 - 1)
    running = [asyncio.create_task(client.chat(healthy.key, f"n {n}")) for n in range(20)]
    await asyncio.to_thread(_put_into_log, stack, odd)
    outcome = await asyncio.to_thread(_outcome, kafka_log, odd.request_id)

    assert {(await reply).status for reply in running} == {200}
    assert outcome.value["status"] in {"failed", "refused"}
    assert outcome.value["bookings"] == []


async def test_a_request_whose_configuration_is_not_here_never_runs(
    client: GatewayClient,
    stack: RunningStack,
    make_key: MakeKey,
    kafka_log: KafkaLog,
    oracle: Oracle,
) -> None:
    """It waits alone and ends with 503; the next one of its organization is answered at once."""
    grant = make_key("shares-late")
    late = _accepted(grant, config_offset=10**9)
    await asyncio.to_thread(_put_into_log, stack, late)
    started_s = time.monotonic()
    replies = [await client.chat(grant.key, f"n {n}") for n in range(5)]
    took_s = time.monotonic() - started_s
    outcome = await asyncio.to_thread(_outcome, kafka_log, late.request_id)

    assert {reply.status for reply in replies} == {200}
    assert took_s < 5.0
    assert (outcome.value["http_status"], outcome.value["error_code"]) == (
        503,
        "service_unavailable",
    )
    assert oracle.calls_of([late.request_id]) == ()
