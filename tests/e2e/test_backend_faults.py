"""A backend that misbehaves costs what it cost, and the client gets a typed answer."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.fakes.call_log import Call
from tests.support.harness.foreign_store import open_foreign
from tests.support.harness.gateway_client import GatewayClient, steer
from tests.support.harness.grants import Grant, MakeKey
from tests.support.harness.kafka_log import KafkaLog
from tests.support.harness.ledger_view import key_of
from tests.support.harness.oracle import Oracle, cost_nano_usd
from tests.support.harness.running_stack import RunningStack, is_alive, lasting

pytestmark = pytest.mark.timeout(60, func_only=True)
MOST_CALLS = 2
CATCH_UP_S = 20.0
LEASE_S = 10.0


@pytest.fixture(scope="module")
def grant(make_key: MakeKey) -> Grant:
    return make_key("fault-org")


def _lines_of(kafka_log: KafkaLog, request_id: str, count: int = 1) -> list[dict[str, Any]]:
    """The usage lines of the request, once there are that many."""
    records = kafka_log.read(
        "usage.records.v1",
        lambda found: sum(r.value["request_id"] == request_id for r in found) >= count,
        CATCH_UP_S,
    )
    return [record.value for record in records if record.value["request_id"] == request_id]


@pytest.mark.parametrize("mode", ["500", "reset"])
async def test_failing_backends_are_called_twice_at_most(
    client: GatewayClient, grant: Grant, oracle: Oracle, mode: str
) -> None:
    """When no backend answers the client gets a typed 502."""
    reply = await client.chat(grant.key, steer(mode=mode))

    assert reply.status == 502, reply.body
    assert reply.json["error"]["code"] in ("upstream_error", "upstream_interrupted")
    assert 1 <= len(oracle.calls_of([reply.request_id])) <= MOST_CALLS


async def test_hanging_backend_ends_at_the_clients_deadline(
    client: GatewayClient, grant: Grant, oracle: Oracle
) -> None:
    """504 when the deadline passes, and the backend sees its connection closed."""
    body = {"model": "fake-1", "messages": [{"role": "user", "content": steer(mode="hang")}]}
    reply = await client.post("/chat/completions", grant.key, body, {"X-Request-Timeout": "2"})

    assert reply.status == 504, reply.body
    assert reply.json["error"]["code"] == "deadline_exceeded"
    assert 1 <= len(oracle.calls_of([reply.request_id])) <= MOST_CALLS


async def test_stream_that_breaks_ends_with_an_error_event(
    client: GatewayClient, grant: Grant, oracle: Oracle
) -> None:
    """What arrived is kept, then a typed error, and no mark of a good end."""
    asked = steer(mode="reset", chunks=6, output_tokens=12)
    reply = await client.chat(grant.key, asked, stream=True)

    assert reply.status == 200
    assert reply.events[-1] != "[DONE]"
    assert json.loads(reply.events[-1])["error"]["code"] == "upstream_interrupted"
    assert len(oracle.calls_of([reply.request_id])) == 1


@pytest.mark.parametrize("mode", ["no_usage", "bad_usage"])
@pytest.mark.parametrize("stream", [False, True])
async def test_missing_or_impossible_usage_is_booked_as_an_estimate(
    client: GatewayClient, grant: Grant, kafka_log: KafkaLog, mode: str, stream: bool
) -> None:
    """The client gets its answer; the usage line says that its counts are ours."""
    asked = steer(mode=mode, output_tokens=5)
    reply = await client.chat(grant.key, asked, stream=stream, max_tokens=50)

    assert reply.status == 200, reply.body
    assert len(reply.text.split()) == 5
    (line,) = _lines_of(kafka_log, reply.request_id)
    assert line["estimated"]
    assert line["output_tokens"] >= 5


async def test_garbled_usage_does_not_make_a_call_free(
    client: GatewayClient, grant: Grant, oracle: Oracle, kafka_log: KafkaLog
) -> None:
    """Whatever the client gets, every call that was made is booked, as an estimate."""
    asked = steer(mode="garbled_usage", output_tokens=5)
    reply = await client.chat(grant.key, asked, max_tokens=50)

    assert reply.status in (200, 502), reply.body
    calls = oracle.calls_of([reply.request_id])
    lines = _lines_of(kafka_log, reply.request_id)
    assert 1 <= len(calls) == len(lines)
    assert [line["estimated"] for line in lines] == [True] * len(lines)
    assert min(line["output_tokens"] for line in lines) >= 5


async def test_tokens_beyond_max_tokens_are_booked_as_they_were_spent(
    client: GatewayClient, grant: Grant, oracle: Oracle, kafka_log: KafkaLog
) -> None:
    """Real spend is real, even above the hold."""
    reply = await client.chat(grant.key, steer(mode="ignore_max_tokens"), max_tokens=4)

    assert reply.status == 200, reply.body
    (call,) = oracle.calls_of([reply.request_id])
    assert call.completion_tokens > 4
    (line,) = _lines_of(kafka_log, reply.request_id)
    assert line["output_tokens"] == call.completion_tokens


def _pid_of(stack: RunningStack, instance_id: str) -> int:
    """The process that bears this name."""
    wanted = f"TALLYGATE_INSTANCE_ID={instance_id}".encode()
    (pid,) = (
        pid
        for pid in lasting(stack.process.pid)
        if wanted in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    )
    return pid


async def _new_calls(oracle: Oracle, seen: set[str], count: int) -> list[Call]:
    """The calls that are not among those seen, once there are that many."""
    fresh: list[Call] = []
    while len(fresh) < count:
        await asyncio.sleep(0.02)
        fresh = [call for call in oracle.calls() if call.start.call_id not in seen]
    return fresh


def _owner_of(stack: RunningStack, org: str, call: Call) -> int:
    """The pid of the dispatcher that makes the call."""
    with open_foreign(stack.ledger_url) as store:
        owner = store.hget(key_of(org, f"a:{call.start.request_id}"), "owner")
    return _pid_of(stack, str(owner, "utf-8").partition("/")[0])


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.timeout(150, func_only=True)
async def test_a_dispatcher_that_wakes_up_after_its_lease_books_what_it_really_used(
    client: GatewayClient,
    stack: RunningStack,
    admin: httpx.Client,
    make_key: MakeKey,
    oracle: Oracle,
    kafka_log: KafkaLog,
    stream: bool,
) -> None:
    """One answer or an honest error meanwhile; in the end the books say what the backends say."""
    grant = make_key(f"sleeper-{'stream' if stream else 'whole'}")
    seen = {call.start.call_id for call in oracle.calls()}
    asked = steer(chunks=8, output_tokens=16, delay_ms=500 if stream else 4_000)
    asking = asyncio.create_task(client.chat(grant.key, asked, stream=stream, max_tokens=50))
    (call,) = await _new_calls(oracle, seen, 1)
    pid = _owner_of(stack, grant.org, call)
    await asyncio.sleep(1.5 if stream else 0.0)
    os.kill(pid, signal.SIGSTOP)
    try:
        await asyncio.sleep(LEASE_S + 15)
    finally:
        os.kill(pid, signal.SIGCONT)
    reply = await asking
    calls = oracle.calls_of([reply.request_id])
    lines = await asyncio.to_thread(_lines_of, kafka_log, reply.request_id, 2 + len(calls))

    assert reply.status == 200, reply.body
    assert len(calls) == (1 if stream else 2)
    if stream:
        assert json.loads(reply.events[-1])["error"]["code"] == "upstream_interrupted"
    else:
        assert len(reply.text.split()) == 16
    for measure in ("prompt_tokens", "completion_tokens"):
        booked = "input_tokens" if measure == "prompt_tokens" else "output_tokens"
        spent = sum(getattr(call, measure) for call in calls)
        assert sum(line[booked] for line in lines) == spent, lines
    assert sum(line["cost_nano_usd"] for line in lines) == sum(map(cost_nano_usd, calls))
    verdict = await asyncio.to_thread(admin.get, "/ledger/verify", params={"deadline_s": 20})
    assert verdict.raise_for_status().json()["difference"] == 0, verdict.text


@pytest.mark.timeout(110, func_only=True)
async def test_a_dispatcher_that_is_told_to_stop_finishes_what_it_can(
    client: GatewayClient,
    stack: RunningStack,
    admin: httpx.Client,
    make_key: MakeKey,
    oracle: Oracle,
) -> None:
    """Short calls end as they would; one that outlasts the drain ends with a typed error."""
    grant = make_key("drain-org")
    seen = {call.start.call_id for call in oracle.calls()}
    short = steer(chunks=10, output_tokens=10, delay_ms=600)
    endless = steer(chunks=100, output_tokens=100, delay_ms=600)
    asking = [
        asyncio.create_task(client.chat(grant.key, asked, stream=True, max_tokens=200))
        for asked in (short, endless)
    ]
    calls = await _new_calls(oracle, seen, 2)
    await asyncio.sleep(1.5)
    told = {_owner_of(stack, grant.org, call) for call in calls}
    for pid in told:
        os.kill(pid, signal.SIGTERM)
    began_s = time.monotonic()
    finished, broken_off = await asyncio.gather(*asking)
    drained_s = time.monotonic() - began_s
    await asyncio.sleep(3)

    assert finished.events[-1] == "[DONE]", finished.body
    assert len(finished.text.split()) == 10
    assert json.loads(broken_off.events[-1])["error"]["code"] == "service_unavailable"
    assert 20 < drained_s < 30
    assert not any(is_alive(pid) for pid in told)
    verdict = await asyncio.to_thread(admin.get, "/ledger/verify", params={"deadline_s": 20})
    assert verdict.raise_for_status().json()["difference"] == 0, verdict.text
