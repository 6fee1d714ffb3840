"""A client that leaves: its backend call is ended soon, and what it used is billed."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator

import aiohttp
import pytest
import pytest_asyncio

from tests.support.fakes.call_log import Call
from tests.support.harness.gateway_client import MODEL, steer
from tests.support.harness.grants import Grant, MakeKey
from tests.support.harness.kafka_log import KafkaLog, LogRecord
from tests.support.harness.oracle import Oracle
from tests.support.harness.running_stack import RunningStack

pytestmark = pytest.mark.timeout(60, func_only=True)
NOTICED_WITHIN_S = 5.0
CLIENTS = 50
CATCH_UP_S = 20.0


@pytest.fixture(scope="module")
def grant(make_key: MakeKey) -> Grant:
    return make_key("leaving-org")


@pytest_asyncio.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    """A plain HTTP client whose connections can be cut."""
    async with aiohttp.ClientSession() as open_session:
        yield open_session


async def _leave_during_call(
    session: aiohttp.ClientSession,
    stack: RunningStack,
    grant: Grant,
    oracle: Oracle,
    *,
    stream: bool,
) -> Call:
    """The backend's call, half a second after which its client cut the connection."""
    seen = {call.start.call_id for call in oracle.calls()}
    content = steer(mode="slow" if stream else "hang", chunks=200)
    body = {"model": MODEL, "messages": [{"role": "user", "content": content}], "stream": stream}
    headers = {"Authorization": f"Bearer {grant.key}"}
    url = f"{stack.api_url}/chat/completions"
    asking = asyncio.create_task(_ask(session, url, body, headers))
    fresh: list[Call] = []
    while not fresh:
        await asyncio.sleep(0.02)
        fresh = [call for call in oracle.calls() if call.start.call_id not in seen]
    await asyncio.sleep(0.5)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    return fresh[0]


async def _ask(
    session: aiohttp.ClientSession, url: str, body: object, headers: dict[str, str]
) -> bytes:
    async with session.post(url, json=body, headers=headers) as answer:
        return await answer.read()


async def _read_one_chunk(
    session: aiohttp.ClientSession, url: str, body: object, headers: dict[str, str]
) -> None:
    """Start a stream and leave it after its first bytes."""
    async with session.post(url, json=body, headers=headers) as answer:
        assert answer.status == 200
        await answer.content.readany()


async def _end_of(oracle: Oracle, call: Call) -> Call:
    end_s = time.monotonic() + NOTICED_WITHIN_S
    while time.monotonic() < end_s:
        (now,) = [known for known in oracle.calls() if known.start.call_id == call.start.call_id]
        if now.end is not None:
            return now
        await asyncio.sleep(0.05)
    raise AssertionError("the backend's call goes on")


def _of(records: list[LogRecord], request_id: str | None) -> list[LogRecord]:
    return [record for record in records if record.value["request_id"] == request_id]


def _of_org(records: list[LogRecord], org: str) -> list[LogRecord]:
    return [record for record in records if record.value["org"] == org]


@pytest.mark.parametrize("stream", [False, True])
async def test_the_backend_call_of_a_client_that_left_is_ended(
    session: aiohttp.ClientSession,
    stack: RunningStack,
    grant: Grant,
    oracle: Oracle,
    kafka_log: KafkaLog,
    stream: bool,
) -> None:
    """The backend sees its connection closed, and the request ends as cancelled, once."""
    call = await _leave_during_call(session, stack, grant, oracle, stream=stream)
    ended = await _end_of(oracle, call)

    assert ended.end is not None
    assert ended.end.client_closed
    request_id = call.start.request_id
    outcomes = _of(
        kafka_log.read(
            "inference.outcomes.v1", lambda found: bool(_of(found, request_id)), CATCH_UP_S
        ),
        request_id,
    )
    assert [
        record.value["status"] for record in outcomes if record.schema == "RequestFinished"
    ] == ["cancelled"]


async def test_fifty_clients_that_leave_in_mid_stream_pay_what_their_backends_count(
    session: aiohttp.ClientSession,
    stack: RunningStack,
    make_key: MakeKey,
    oracle: Oracle,
    kafka_log: KafkaLog,
) -> None:
    """What is left of a stream is read within the cap, so that the count is the backend's own."""
    grant = make_key("leaving-fifty")
    seen = {call.start.call_id for call in oracle.calls()}
    content = steer(chunks=12, delay_ms=100, output_tokens=60)
    body = {"model": MODEL, "messages": [{"role": "user", "content": content}], "stream": True}
    headers = {"Authorization": f"Bearer {grant.key}"}
    url = f"{stack.api_url}/chat/completions"
    await asyncio.gather(*(_read_one_chunk(session, url, body, headers) for _ in range(CLIENTS)))
    calls = [call for call in oracle.calls() if call.start.call_id not in seen]
    ended = [await _end_of(oracle, call) for call in calls]
    lines = _of_org(
        kafka_log.read(
            "usage.records.v1", lambda found: len(_of_org(found, grant.org)) >= CLIENTS, CATCH_UP_S
        ),
        grant.org,
    )

    assert len(ended) == CLIENTS
    assert {line.value["request_id"] for line in lines} == {c.start.request_id for c in ended}
    assert sorted(
        (line.value["input_tokens"], line.value["output_tokens"], line.value["estimated"])
        for line in lines
    ) == sorted((call.prompt_tokens, call.completion_tokens, False) for call in ended)


async def test_a_call_that_has_not_answered_is_closed_at_once(
    session: aiohttp.ClientSession, stack: RunningStack, grant: Grant, oracle: Oracle
) -> None:
    """Nothing was received, so there is nothing to read on for."""
    call = await _leave_during_call(session, stack, grant, oracle, stream=False)
    left_at_ms = time.time_ns() // 1_000_000
    ended = await _end_of(oracle, call)

    assert ended.end is not None
    print(f"upstream closed after {ended.end.at_ms - left_at_ms} ms")


async def test_a_job_does_not_need_its_client(
    session: aiohttp.ClientSession, stack: RunningStack, grant: Grant, oracle: Oracle
) -> None:
    """Its connection may go; it was promised."""
    headers = {
        "Authorization": f"Bearer {grant.key}",
        "Prefer": "respond-async, wait=20",
        "Idempotency-Key": uuid.uuid4().hex,
    }
    content = steer(delay_ms=1_500, output_tokens=4)
    body = {"model": MODEL, "messages": [{"role": "user", "content": content}]}
    seen = {call.start.call_id for call in oracle.calls()}
    url = f"{stack.api_url}/chat/completions"
    asking = asyncio.create_task(_ask(session, url, body, headers))
    await asyncio.sleep(0.6)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    (call,) = [call for call in oracle.calls() if call.start.call_id not in seen]
    ended = await _end_of(oracle, call)

    assert ended.end is not None
    assert not ended.end.client_closed
    assert ended.completion_tokens == 4
