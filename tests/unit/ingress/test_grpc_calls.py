"""Calls over gRPC are judged, begun, answered, refused and cancelled as requests over HTTP are."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import msgspec
import pytest

from ingress.grpc.server import SERVICE
from schemas.errors import ErrorCode
from schemas.events import Denial
from schemas.frames import Terminal
from schemas.proto.tallygate.inference.v1 import inference_pb2 as pb
from tests.support.configuration import UNKNOWN_SECRET
from tests.unit.ingress.grpc_gateway import (
    CLIENT_ID,
    COMPLETION,
    GrpcClient,
    details,
    grpc_gateway,
    request,
)

OTHER_ID = "0b9a2c7e-2f5e-4f0e-9a57-0a3d2c1b4e5f"


async def _refused(call: Any) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call
    return raised.value


async def test_a_request_is_answered() -> None:
    """With its text, its use, and the headers of HTTP as trailing metadata."""
    async with grpc_gateway() as client:
        call = client.infer()
        answer = await call
        told = dict(await call.trailing_metadata())

    assert answer == pb.InferResponse(
        request_id=CLIENT_ID,
        model="echo",
        output="Hello",
        usage=pb.UsageSummary(prompt_tokens=3, completion_tokens=2, total_tokens=5),
        backend="b",
        latency_ms=7,
    )
    assert told["x-tallygate-cost-usd"] == "0.000001000"
    assert told["x-request-id"] == client.gateway.log.accepted[0].request_id


async def test_the_log_sees_what_it_sees_of_http() -> None:
    """The same event for the same body, numbers included."""
    fields = request(parameters={"max_tokens": 5, "temperature": 0.5})
    async with grpc_gateway() as client:
        await client.call("Infer", fields)
        by_grpc = client.gateway.log.accepted[0]
    async with grpc_gateway() as client:
        await client.gateway.client.post("/v1/inference", json=fields)
        by_http = client.gateway.log.accepted[0]

    assert msgspec.json.decode(by_grpc.payload) == msgspec.json.decode(by_http.payload)
    same = {"request_id": "", "deadline_ms": 0, "payload": b""}
    assert msgspec.structs.replace(by_grpc, **same) == msgspec.structs.replace(by_http, **same)
    assert b'"max_tokens":5,' in by_grpc.payload


async def test_a_stream_comes_in_pieces() -> None:
    """And ends with its summary."""
    async with grpc_gateway() as client:
        messages = [message async for message in client.call("InferStream", request())]

    assert [message.delta for message in messages] == ["Hel", "lo", ""]
    assert [message.HasField("summary") for message in messages] == [False, False, True]
    assert messages[-1].summary.usage.total_tokens == 5
    assert {message.request_id for message in messages} == {CLIENT_ID}


async def test_messages_may_be_given_as_over_http() -> None:
    """A payload is a text or a list of messages."""
    messages = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hi"}]
    async with grpc_gateway() as client:
        await client.call("Infer", request(payload=messages))
        payload = msgspec.json.decode(client.gateway.log.accepted[0].payload)

    assert payload["messages"] == messages


@pytest.mark.parametrize("metadata", [(), (("x-api-key", UNKNOWN_SECRET),)])
@pytest.mark.parametrize("method", ["Infer", "InferStream", "SubmitJob", "GetJob", "CancelJob"])
async def test_without_a_valid_key_nothing_is_done(
    method: str, metadata: tuple[tuple[str, str], ...]
) -> None:
    """Whatever the method, and before its message is looked at."""
    async with grpc_gateway() as client:
        call = client.call(method, b"\xff", metadata=metadata)
        error = await _refused(call.read() if method == "InferStream" else call)

    assert error.code() is grpc.StatusCode.UNAUTHENTICATED
    assert details(error)["ErrorInfo"].reason == "INVALID_API_KEY"
    assert client.gateway.log.records == []


async def test_who_has_no_key_is_refused_before_its_message_comes() -> None:
    """Otherwise anybody could make the process hold as much as a body may have, for each call."""

    async def never() -> AsyncIterator[bytes]:
        await asyncio.Event().wait()
        yield b""

    async with grpc_gateway() as client:
        send: Any = client.channel.stream_unary(f"/{SERVICE}/Infer")
        error = await _refused(send(never(), timeout=5))

    assert error.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_a_key_may_come_as_a_bearer_token() -> None:
    """As over HTTP."""
    async with grpc_gateway() as client:
        secret = client.gateway.client.headers["x-api-key"]
        answer = await client.infer(metadata=(("authorization", f"Bearer {secret}"),))

    assert answer.output == "Hello"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        (request(request_id="x"), "request_id"),
        (request(payload=""), "payload"),
        (request(parameters={"n": 2}), "parameters.n"),
        ({"request_id": CLIENT_ID, "payload": "hi"}, "model"),
    ],
)
async def test_a_field_that_is_wrong_is_named(fields: dict[str, Any], param: str) -> None:
    """By its name over HTTP."""
    async with grpc_gateway() as client:
        error = await _refused(client.call("Infer", fields))

    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert details(error)["BadRequest"].field_violations[0].field == param


async def test_bytes_that_are_no_message_are_refused() -> None:
    """They cost their own call."""
    async with grpc_gateway() as client:
        error = await _refused(client.call("Infer", b"\xff\xff"))
        assert (await client.infer()).output == "Hello"

    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_message_that_is_too_large_is_refused() -> None:
    """By the bound of bodies."""
    async with grpc_gateway(max_body_bytes=2_048) as client:
        error = await _refused(client.call("Infer", request(payload="x" * 4_000)))
        assert (await client.infer()).output == "Hello"

    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert client.gateway.gatekeeper.shares.requests == 0


_DENIAL = Denial(
    limit_id="org:budget:day", limit_type="budget", unit="nano_usd", current_usage=5, limit=4
)
_SPENT = Terminal(402, error_code="BUDGET_EXCEEDED", error_message="Budget spent.", denial=_DENIAL)
_RATE = msgspec.structs.replace(
    _DENIAL, limit_type="rate_limit", unit="requests", retry_after_ms=1_500
)
_LIMITED = Terminal(429, error_code="RATE_LIMIT_EXCEEDED", error_message="Slow.", denial=_RATE)


@pytest.mark.parametrize("method", ["Infer", "InferStream"])
async def test_a_spent_budget_exhausts_and_says_which(method: str) -> None:
    """402 over HTTP; amounts are exact."""
    async with grpc_gateway() as client:
        client.gateway.log.worker = lambda _: (_SPENT,)
        call = client.call(method, request())
        error = await _refused(call.read() if method == "InferStream" else call)

    info = details(error)["ErrorInfo"]
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert (info.reason, info.domain) == ("BUDGET_EXCEEDED", "tallygate")
    assert dict(info.metadata) == {
        "code": "BUDGET_EXCEEDED",
        "http_status": "402",
        "limit_type": "budget",
        "current_usage": "0.000000005",
        "limit": "0.000000004",
    }
    assert "RetryInfo" not in details(error)
    assert dict(error.trailing_metadata())["x-should-retry"] == "false"


async def test_a_rate_says_when_to_come_back() -> None:
    """In the detail that retrying clients read, and as metadata."""
    async with grpc_gateway() as client:
        client.gateway.log.worker = lambda _: (_LIMITED,)
        error = await _refused(client.infer())

    assert details(error)["RetryInfo"].retry_delay.ToMilliseconds() == 1_500
    assert dict(error.trailing_metadata())["retry-after-ms"] == "1500"


async def test_the_deadline_of_a_call_is_that_of_its_request() -> None:
    """Also of a stream, which could last longest otherwise."""
    async with grpc_gateway() as client:
        await client.infer(timeout=7)
        await client.call("InferStream", request(request_id=OTHER_ID), timeout=9).read()
        whole, stream = client.gateway.log.accepted

    assert 6_000 < whole.deadline_ms - whole.accepted_at_ms <= 7_100
    assert 8_000 < stream.deadline_ms - stream.accepted_at_ms <= 9_100


async def test_a_call_without_a_deadline_has_that_of_http() -> None:
    """Two minutes."""
    async with grpc_gateway() as client:
        await client.infer(timeout=None)
        (accepted,) = client.gateway.log.accepted

    assert accepted.deadline_ms - accepted.accepted_at_ms == 120_000


async def _left(client: GrpcClient, method: str, fields: dict[str, Any]) -> str | None:
    """What became of a request whose client left while it waited: the state of its attempt, if any."""
    gateway = client.gateway
    gateway.log.worker = lambda _: ()
    call = client.call(method, fields)
    await asyncio.wait_for(gateway.log.arrived.wait(), 5)
    call.cancel()
    async with asyncio.timeout(5):
        while len(gateway.pending) or gateway.gatekeeper.shares.requests:  # noqa: ASYNC110  # neither is an event
            await asyncio.sleep(0.01)
    await gateway.cancellations.finish()
    attempts = gateway.ledger.model.attempts
    return next((attempt.state for attempt in attempts.values()), None)


@pytest.mark.parametrize("method", ["InferStream", "Infer"])
async def test_who_leaves_cancels_what_nobody_can_come_back_for(method: str) -> None:
    """A request that its client gave no id; its place is free."""
    async with grpc_gateway() as client:
        state = await _left(client, method, {"model": "echo", "payload": "hi"})

    assert state == "CANCELLED"


@pytest.mark.parametrize("method", ["InferStream", "Infer"])
async def test_a_request_with_an_id_goes_on_without_its_client(method: str) -> None:
    """As over HTTP: its answer is kept for who sends it again."""
    async with grpc_gateway() as client:
        state = await _left(client, method, request())

    assert state is None


async def test_a_request_without_an_id_has_the_one_of_its_answer() -> None:
    """Under which it is found; the same body twice is two requests."""
    fields = {"model": "echo", "payload": "hi"}
    async with grpc_gateway() as client:
        first, second = await client.call("Infer", fields), await client.call("Infer", fields)
        ids = [accepted.request_id for accepted in client.gateway.log.accepted]

    assert [first.request_id, second.request_id] == ids
    assert client.gateway.log.accepted[0].idempotency_hash is None


async def test_a_repeated_request_is_answered_again() -> None:
    """By its id, once; the backend is asked once."""
    async with grpc_gateway() as client:
        await client.infer()
        again = client.infer()
        answer = await again
        told = dict(await again.trailing_metadata())

    assert answer.output == "Hello"
    assert told["idempotent-replayed"] == "true"
    assert len(client.gateway.log.accepted) == 1


async def test_a_job_is_promised_told_and_cancelled() -> None:
    """Under one id, which is no one's that has another key."""
    async with grpc_gateway() as client:
        client.gateway.log.worker = lambda _: ()
        job = (await client.call("SubmitJob", {"model": "echo", "payload": "hi"})).job
        told = (await client.call("GetJob", {"job_id": job.id})).job
        await client.call("CancelJob", {"job_id": job.id})
        error = await _refused(client.call("GetJob", {"job_id": CLIENT_ID}))

    assert (job.status, job.model) == (pb.JOB_STATUS_QUEUED, "echo")
    assert (told.id, told.status, told.expires_at) == (job.id, pb.JOB_STATUS_QUEUED, job.expires_at)
    assert error.code() is grpc.StatusCode.NOT_FOUND


async def test_a_finished_job_has_its_result() -> None:
    """The backend's own body."""
    async with grpc_gateway() as client:
        client.gateway.log.worker = lambda _: (Terminal(200, body=COMPLETION, backend="b"),)
        job = (await client.call("SubmitJob", {"model": "echo", "payload": "hi"})).job
        told = (await client.call("GetJob", {"job_id": job.id})).job

    assert told.status == pb.JOB_STATUS_COMPLETED
    assert told.result["choices"][0]["message"]["content"] == "Hello"


async def test_a_defect_costs_its_own_call() -> None:
    """Its client is told, and the next one is served."""
    async with grpc_gateway() as client:
        client.gateway.ledger.fails_with_defect = True
        error = await _refused(client.infer())
        client.gateway.ledger.fails_with_defect = False
        assert (await client.infer()).output == "Hello"

    assert error.code() is grpc.StatusCode.INTERNAL
    assert details(error)["ErrorInfo"].metadata["code"] == ErrorCode.INTERNAL_ERROR


async def test_calls_are_counted_with_the_requests() -> None:
    """By the status and the code that they have over HTTP."""
    async with grpc_gateway() as client:
        await client.infer()
        await _refused(client.infer(metadata=()))
        # A call is counted once it is over here, which is after its client has its status.
        counted = 'tallygate_requests_total{code="%s",operation="inference",status="%d"} 1.0'
        wanted = {counted % ("", 200), counted % ("invalid_api_key", 401)}
        async with asyncio.timeout(10):
            while not all(line in client.gateway.metrics.page().decode() for line in wanted):  # noqa: ASYNC110  # a counter has no event
                await asyncio.sleep(0.01)
