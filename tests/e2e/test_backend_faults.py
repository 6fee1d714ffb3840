"""A backend that misbehaves costs what it cost, and the client gets a typed answer."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.e2e.conftest import Grant, MakeKey, Oracle
from tests.e2e.gateway_client import GatewayClient, steer
from tests.e2e.kafka_log import KafkaLog

pytestmark = pytest.mark.timeout(60, func_only=True)
MOST_CALLS = 2
CATCH_UP_S = 20.0


@pytest.fixture(scope="module")
def grant(make_key: MakeKey) -> Grant:
    return make_key("fault-org")


def _lines_of(kafka_log: KafkaLog, request_id: str) -> list[dict[str, Any]]:
    records = kafka_log.read(
        "usage.records.v1",
        lambda found: any(record.value["request_id"] == request_id for record in found),
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
