"""The native route: its answer, its stream and its errors."""

from __future__ import annotations

import json
import uuid
from typing import Any

import pytest

from tests.support.harness.gateway_client import MODEL, GatewayClient, steer
from tests.support.harness.grants import Grant, MakeKey
from tests.support.harness.oracle import Oracle

pytestmark = pytest.mark.timeout(60, func_only=True)


@pytest.fixture(scope="module")
def grant(make_key: MakeKey) -> Grant:
    return make_key("inference-org")


async def test_answer_has_exactly_the_promised_fields(
    client: GatewayClient, grant: Grant, oracle: Oracle
) -> None:
    """The client's own id, the output, the backend's count of tokens, who answered, how fast."""
    mine = str(uuid.uuid4())
    reply = await client.infer(grant.key, "alpha beta gamma", request_id=mine)

    assert reply.status == 200, reply.body
    (call,) = oracle.calls_of([reply.request_id])
    answer = reply.json
    assert answer.keys() == {"request_id", "model", "output", "usage", "backend", "latency_ms"}
    assert (answer["request_id"], answer["model"]) == (mine, MODEL)
    assert answer["usage"] == {
        "prompt_tokens": call.prompt_tokens,
        "completion_tokens": call.completion_tokens,
        "total_tokens": call.prompt_tokens + call.completion_tokens,
    }
    assert len(answer["output"].split()) == call.completion_tokens
    assert call.start.call_id.startswith(answer["backend"])
    assert answer["latency_ms"] >= 0


async def test_messages_and_parameters_reach_the_backend(
    client: GatewayClient, grant: Grant
) -> None:
    """A list of messages is taken as it is; parameters such as max_tokens bound the answer."""
    payload: Any = [{"role": "user", "content": steer(output_tokens=50)}]
    reply = await client.infer(grant.key, payload, parameters={"max_tokens": 3})

    assert reply.status == 200, reply.body
    assert reply.json["usage"]["completion_tokens"] == 3


async def test_stream_ends_with_usage_and_end_mark(
    client: GatewayClient, grant: Grant, oracle: Oracle
) -> None:
    """Deltas under the client's id, then usage and backend, then [DONE]."""
    mine = str(uuid.uuid4())
    words = steer(chunks=4, output_tokens=8)
    reply = await client.infer(grant.key, words, request_id=mine, stream=True)

    assert reply.status == 200, reply.body
    assert reply.is_stream
    assert reply.events[-1] == "[DONE]"
    *deltas, last = reply.chunks
    assert all(chunk["request_id"] == mine for chunk in [*deltas, last])
    assert len("".join(chunk["delta"] for chunk in deltas).split()) == 8
    (call,) = oracle.calls_of([reply.request_id])
    assert last["usage"]["completion_tokens"] == call.completion_tokens == 8
    assert call.start.call_id.startswith(last["backend"])


BAD_BODIES: list[tuple[dict[str, Any], int, str, str]] = [
    ({"request_id": "not-a-uuid"}, 400, "invalid_request", "request_id"),
    ({"payload": 7}, 400, "invalid_request", "payload"),
    ({"parameters": {"model": "other"}}, 400, "invalid_request", "parameters"),
    ({"model": "no-such-model"}, 404, "model_not_found", MODEL),
]


@pytest.mark.parametrize(("change", "status", "code", "named"), BAD_BODIES)
async def test_bad_input_is_a_problem_that_names_the_field(
    client: GatewayClient,
    grant: Grant,
    oracle: Oracle,
    change: dict[str, Any],
    status: int,
    code: str,
    named: str,
) -> None:
    """problem+json with the status, the code and the field; the backend hears nothing."""
    before = len(oracle.calls())
    body = {"request_id": str(uuid.uuid4()), "model": MODEL, "payload": "hello", **change}
    reply = await client.post("/inference", grant.key, body)

    assert (reply.status, reply.json["code"]) == (status, code)
    assert reply.headers["content-type"].startswith("application/problem+json")
    assert {"type", "title", "status", "detail", "error", "code"} <= reply.json.keys()
    assert reply.json["status"] == status
    assert named in json.dumps(reply.json, default=str)
    assert len(oracle.calls()) == before
