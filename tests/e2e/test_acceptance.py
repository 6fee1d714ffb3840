"""What standards ask of any gateway that real SDKs use, each by its number: items that no other test shows whole.

All of them, and which tests show them: [the table](../README.md#acceptance). `make acceptance` asks them of more clients.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import signal
import time
import uuid
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from tests.support.fakes.running_backend import RunningBackend, running_backend
from tests.support.harness.gateway_client import MODEL, GatewayClient, steer
from tests.support.harness.grants import Grant, MakeKey
from tests.support.harness.kafka_log import KafkaLog, LogRecord
from tests.support.harness.oracle import Oracle
from tests.support.harness.running_stack import RunningStack
from tests.support.otlp_receiver import Receiver

pytestmark = pytest.mark.timeout(90, func_only=True)

_VICTIM = "acceptance-victim"
_CATCH_UP_S = 30.0
_ERROR_FIELDS = {"message": str, "type": str, "param": str | None, "code": str | None}
"""Of OpenAI's `ErrorResponse`: all four are required."""


@pytest.fixture(scope="module")
def grant(make_key: MakeKey) -> Grant:
    return make_key("acceptance-org", {"budgets": [{"usd": "100", "period": "month"}]})


@pytest.fixture
def victim(admin: httpx.Client, tmp_path: Path) -> Iterator[RunningBackend]:
    """A backend that may be killed, behind a model of its own."""
    with running_backend(_VICTIM, tmp_path / "victim.jsonl") as backend:
        admin.put(f"/backends/{_VICTIM}", json={"url": backend.url}).raise_for_status()
        model = {
            "backends": [{"backend": _VICTIM}],
            "input_usd_per_mtok": "0.50",
            "output_usd_per_mtok": "1.50",
        }
        admin.put(f"/models/{_VICTIM}", json=model).raise_for_status()
        yield backend
    admin.delete(f"/models/{_VICTIM}").raise_for_status()
    admin.delete(f"/backends/{_VICTIM}").raise_for_status()


def _sdk(stack: RunningStack, key: str, retries: int = 0) -> openai.OpenAI:
    return openai.OpenAI(base_url=stack.api_url, api_key=key, max_retries=retries, timeout=30)


def _ask(content: str, **more: Any) -> dict[str, Any]:
    return {"model": MODEL, "messages": [{"role": "user", "content": content}], **more}


def test_3_a_backend_killed_in_mid_stream_is_an_api_error_and_billed_as_far_as_it_came(
    stack: RunningStack, grant: Grant, victim: RunningBackend, kafka_log: KafkaLog
) -> None:
    """By kill -9: what came stands in the usage row, and its attempt is called interrupted."""
    asked = _ask(steer(chunks=200, output_tokens=200, delay_ms=50), model=_VICTIM)
    words: list[str] = []
    with _sdk(stack, grant.key) as sdk:
        stream = sdk.chat.completions.create(**asked, stream=True)
        request_id = stream.response.headers["x-request-id"]
        with pytest.raises(openai.APIError) as caught:
            _read_and_kill(stream, words, victim.pid)
        told: Any = sdk.get(f"/requests/{request_id}", cast_to=object)
    (line,) = _of(kafka_log, "usage.records.v1", request_id)

    assert caught.value.code == "upstream_interrupted"
    assert 10 <= len(words) < 200
    assert [attempt["status"] for attempt in told["attempts"]] == ["interrupted"]
    assert line.value["estimated"]
    assert line.value["output_tokens"] == told["usage"]["completion_tokens"] == len(words)
    assert line.value["cost_nano_usd"] == line.value["input_tokens"] * 500 + len(words) * 1_500


def _read_and_kill(stream: Iterable[Any], words: list[str], pid: int) -> None:
    for chunk in stream:
        words += (chunk.choices[0].delta.content or "").split()
        if len(words) == 10:
            os.kill(pid, signal.SIGKILL)


def _of(log: KafkaLog, topic: str, request_id: str) -> list[LogRecord]:
    """The records of a request in a topic."""

    def of_it(records: list[LogRecord]) -> list[LogRecord]:
        return [each for each in records if each.value["request_id"] == request_id]

    return of_it(log.read(topic, lambda read: bool(of_it(read)), _CATCH_UP_S))


def test_4_a_refused_stream_is_a_real_429_that_says_when_to_come_back(
    stack: RunningStack, make_key: MakeKey, oracle: Oracle
) -> None:
    """No stream begins before its verdict, so nothing of a refused one is asked of a backend."""
    rated = make_key("acceptance-rated", {"requests_per_s": 0.1, "burst": 1})
    with _sdk(stack, rated.key) as sdk:
        list(sdk.chat.completions.create(**_ask("first"), stream=True))
        with pytest.raises(openai.RateLimitError) as caught:
            sdk.chat.completions.create(**_ask("second"), stream=True)
    headers = caught.value.response.headers

    assert headers["content-type"].startswith("application/json")
    assert 0 < int(headers["retry-after-ms"]) <= 1_000 * int(headers["retry-after"]) <= 10_000
    assert not oracle.calls_of([headers["x-request-id"]])


def test_5_a_client_of_a_spent_budget_makes_one_call(
    stack: RunningStack, make_key: MakeKey
) -> None:
    """402 and `x-should-retry: false`, whatever its SDK would retry; counted by the gateway."""
    spent = make_key("acceptance-spent", {"budgets": [{"usd": "0.000001", "period": "total"}]})
    before = _answered(stack, 402)
    with _sdk(stack, spent.key, retries=5) as sdk, pytest.raises(openai.APIStatusError) as caught:
        sdk.chat.completions.create(**_ask("too dear"))

    assert caught.value.status_code == 402
    assert caught.value.response.headers["x-should-retry"] == "false"
    assert _answered(stack, 402) - before == 1


def _answered(stack: RunningStack, status: int) -> int:
    """How many chat completions of the stack ended with a status, as its one ingress counts them."""
    page = httpx.get(f"{stack.api_url.removesuffix('/v1')}/metrics").text
    wanted = ('operation="chat.completions"', f'status="{status}"')
    return sum(
        int(float(line.rpartition(" ")[2]))
        for line in page.splitlines()
        if line.startswith("tallygate_requests_total{") and all(each in line for each in wanted)
    )


def test_6_one_key_at_once_is_in_flight_then_the_stored_answer_and_no_other_body(
    stack: RunningStack, grant: Grant, oracle: Oracle
) -> None:
    """409 for who does not wait, which the SDK retries until it has the answer; quotes mean nothing; 422 for another body."""
    key, asked = uuid.uuid4().hex, _ask(steer(delay_ms=1_500, output_tokens=3))
    with _sdk(stack, grant.key) as sdk, ThreadPoolExecutor(1) as beside:
        keyed: Any = {**asked, "extra_headers": {"Idempotency-Key": key}}
        first = beside.submit(lambda: sdk.chat.completions.create(**keyed))
        time.sleep(0.5)
        impatient = {"Idempotency-Key": f'"{key}"', "Prefer": "wait=0"}
        with pytest.raises(openai.ConflictError) as in_flight:
            sdk.chat.completions.create(**asked, extra_headers=impatient)
        raw = sdk.with_options(max_retries=5).chat.completions.with_raw_response.create(
            **asked, extra_headers=impatient
        )
        with pytest.raises(openai.UnprocessableEntityError) as reused:
            sdk.chat.completions.create(**_ask("other"), extra_headers={"Idempotency-Key": key})
        answer = first.result()

    assert in_flight.value.code == "idempotency_in_flight"
    assert raw.retries_taken >= 1
    assert raw.parse() == answer
    assert reused.value.code == "idempotency_key_reused"
    assert len(oracle.calls_of([raw.headers["x-request-id"]])) == 1


async def test_8_one_id_is_in_the_reply_the_log_the_record_the_usage_row_and_the_trace(
    client: GatewayClient, stack: RunningStack, grant: Grant, kafka_log: KafkaLog, traces: Receiver
) -> None:
    """Of a request that both backends failed, which is what somebody looks for."""
    trace_id = secrets.token_hex(16)
    context = {"traceparent": f"00-{trace_id}-00f067aa0ba902b7-01"}
    reply = await client.post(
        "/chat/completions", grant.key, _ask(steer(mode="reset", output_tokens=4)), context
    )
    request_id = reply.request_id

    def is_told(record: LogRecord) -> bool:
        return request_id in record.headers.values()

    accepted = await asyncio.to_thread(
        kafka_log.read,
        "inference.requests.v1",
        lambda read: any(map(is_told, read)),
        _CATCH_UP_S,
    )
    lines = await asyncio.to_thread(_of, kafka_log, "usage.records.v1", request_id)
    spans = await asyncio.to_thread(
        traces.wait_for,
        trace_id,
        lambda seen: any(request_id in each.attributes.values() for each in seen),
    )
    logged = await asyncio.to_thread(_logs_with, stack, request_id)

    assert reply.status == 502
    assert [each.value["request_id"] for each in accepted if is_told(each)] == [request_id]
    assert lines
    assert any(request_id in each.attributes.values() for each in spans)
    assert {name.partition("-")[0] for name in logged} >= {"ingress", "dispatcher"}


def _logs_with(stack: RunningStack, request_id: str) -> list[str]:
    """The names of the log files that have the id."""
    files = Path(stack.state_dir, "logs").glob("*.log")
    return [each.name for each in files if request_id in each.read_text(encoding="utf-8")]


async def test_9_every_error_of_v1_is_an_error_response_of_openai(
    client: GatewayClient, grant: Grant, make_key: MakeKey
) -> None:
    """All four keys, of these types, whatever refused it and on whatever route."""
    spent = make_key("acceptance-spent-9", {"budgets": [{"usd": "0.000001", "period": "total"}]})
    rated = make_key("acceptance-rated-9", {"requests_per_s": 0.1, "burst": 1})
    await client.chat(rated.key, "hello")
    key = {"Idempotency-Key": uuid.uuid4().hex}
    await client.post("/chat/completions", grant.key, _ask("one"), key)
    replies = [
        (400, await client.chat(grant.key, "hello", max_tokens=-1)),
        (400, await client.get("/organization/costs?bucket_width=1m", grant.key)),
        (401, await client.chat("tg_live_nobody", "hello")),
        (402, await client.chat(spent.key, "hello")),
        (404, await client.chat(grant.key, "hello", model="nope")),
        (404, await client.get("/responses/resp_nope", grant.key)),
        (404, await client.get("/files/file-nope", grant.key)),
        (404, await client.get("/batches/batch_nope", grant.key)),
        (404, await client.get("/nowhere", grant.key)),
        (405, await client.get("/embeddings", grant.key)),
        (422, await client.post("/chat/completions", grant.key, _ask("two"), key)),
        (429, await client.chat(rated.key, "hello", stream=True)),
        (502, await client.chat(grant.key, steer(mode="500"))),
    ]

    for status, reply in replies:
        assert reply.status == status, reply.body
        assert reply.headers["content-type"] == "application/json"
        error = json.loads(reply.body)["error"]
        for name, kind in _ERROR_FIELDS.items():
            assert isinstance(error[name], kind), (name, reply.body)


def test_9_every_error_of_the_control_plane_is_a_problem_of_rfc_9457(admin: httpx.Client) -> None:
    """Its type is a URI, its status that of the answer, and both texts are there."""
    answers = [
        admin.get("/nowhere"),
        admin.put("/usage"),
        admin.get("/orgs/no-such-org"),
        admin.put("/orgs/acceptance-bad", json={"limits": {"requests_per_s": -1}}),
        admin.put("/models/bad", content=b"{"),
        admin.get("/usage", params={"from": "never"}),
        admin.get("/requests/no-id"),
    ]

    assert [answer.status_code for answer in answers] == [404, 405, 404, 400, 415, 400, 400]
    for answer in answers:
        assert answer.headers["content-type"] == "application/problem+json"
        problem = answer.json()
        assert problem["status"] == answer.status_code
        assert ":" in problem["type"]
        assert isinstance(problem["title"], str)
        assert isinstance(problem["detail"], str)
