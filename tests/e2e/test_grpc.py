"""Requests over gRPC on the whole stack: the same budget, the same books, and backends that are left alone when their client leaves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import pytest
import pytest_asyncio
from google.protobuf.json_format import ParseDict
from google.rpc import error_details_pb2, status_pb2

from schemas.proto.tallygate.inference.v1 import inference_pb2 as pb
from tests.support.fakes.call_log import Call
from tests.support.harness.gateway_client import MODEL, GatewayClient, steer
from tests.support.harness.grants import MakeKey
from tests.support.harness.oracle import Oracle
from tests.support.harness.running_stack import RunningStack

pytestmark = pytest.mark.timeout(60, func_only=True)
_SERVICE = "/tallygate.inference.v1.InferenceService"
_WITHIN_S = 10.0


@pytest_asyncio.fixture
async def channel(stack: RunningStack) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(stack.grpc) as channel:
        yield channel


def _infer(channel: grpc.aio.Channel, key: str, payload: str, **parameters: Any) -> Any:
    fields = {"model": MODEL, "payload": payload, "parameters": parameters}
    request = ParseDict(fields, pb.InferRequest())
    call: Any = channel.unary_unary(
        f"{_SERVICE}/Infer", response_deserializer=pb.InferResponse.FromString
    )
    metadata = (("authorization", f"Bearer {key}"),)
    return call(request.SerializeToString(), metadata=metadata, timeout=30)


async def test_an_answer_has_the_use_that_the_backend_logged(
    channel: grpc.aio.Channel, make_key: MakeKey, oracle: Oracle
) -> None:
    """Found by the id in the trailing metadata."""
    call = _infer(channel, make_key("grpc-org").key, steer(output_tokens=7), max_tokens=16)
    answer = await call
    request_id = dict(await call.trailing_metadata())["x-request-id"]

    (logged,) = oracle.calls_of([request_id])
    assert answer.usage.prompt_tokens == logged.prompt_tokens
    assert answer.usage.completion_tokens == logged.completion_tokens == 7
    assert answer.output


async def test_a_budget_that_is_spent_over_http_is_spent_over_grpc(
    client: GatewayClient, channel: grpc.aio.Channel, make_key: MakeKey
) -> None:
    """And the refusal says the same."""
    budget = {"budgets": [{"usd": "0.000000001", "period": "total"}], "on_limit": "reject"}
    key = make_key("grpc-budget-org", budget).key
    over_http = (await client.infer(key, "hello")).json
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await _infer(channel, key, "hello")

    details = dict(raised.value.trailing_metadata())["grpc-status-details-bin"]
    info = error_details_pb2.ErrorInfo()
    assert status_pb2.Status.FromString(details).details[0].Unpack(info)
    assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert info.reason == over_http["code"] == "BUDGET_EXCEEDED"
    assert info.metadata["limit_type"] == over_http["limit_type"]
    assert info.metadata["limit"] == f"{over_http['limit']:f}"


async def test_the_call_of_a_client_that_leaves_is_ended(
    channel: grpc.aio.Channel, make_key: MakeKey, oracle: Oracle
) -> None:
    """At the backend, and long before its own time is over."""
    seen = {call.start.call_id for call in oracle.calls()}
    call = _infer(channel, make_key("grpc-leaving-org").key, steer(mode="hang"))
    asking = asyncio.ensure_future(call)
    async with asyncio.timeout(_WITHIN_S):
        while not (fresh := _fresh(oracle, seen)):  # noqa: ASYNC110  # another process
            await asyncio.sleep(0.02)
        await asyncio.sleep(0.3)
        call.cancel()
        while _fresh(oracle, seen)[0].end is None:  # noqa: ASYNC110  # another process
            await asyncio.sleep(0.05)
        await asyncio.wait({asking})  # Its own end may come behind the backend's.

    assert len(fresh) == 1
    assert asking.cancelled() or asking.exception() is not None


def _fresh(oracle: Oracle, seen: set[str]) -> list[Call]:
    return [call for call in oracle.calls() if call.start.call_id not in seen]
