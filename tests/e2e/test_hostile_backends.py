"""Hostile answers on the real stack: each costs its own request, in time, and nobody else anything."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.fakes.call_log import Call, read_calls
from tests.support.fakes.running_backend import RunningBackend, running_backend
from tests.support.fakes.shapes.table import SHAPES
from tests.support.fakes.shapes.wire import COMPLETION_TOKENS, PROMPT_TOKENS, SILENCE_S, Shape
from tests.support.harness.gateway_client import GatewayClient, Reply, steer
from tests.support.harness.grants import Grant, MakeKey
from tests.support.harness.kafka_log import KafkaLog
from tests.support.harness.oracle import Oracle
from tests.support.harness.running_stack import RunningStack, lasting

_CATCH_UP_S = 30.0
_AT_ONCE = 4
_SURPLUS = "fake-answers-twice"
"""Asked first and alone: whoever had its connection before the surplus answer came would get that for an
answer, and nobody could tell (ADR 0040)."""
_SURPLUS_S = 0.2
_MEGABYTES_S = 6.0
"""For sending up to 64 MiB through all processes before a limit of size is crossed."""
_PATH_S = 1.5
"""From the client to the backend and back on a busy machine; a shape's own time comes on top."""


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningBackend]:
    """The hostile backend, a process of its own."""
    log = tmp_path_factory.mktemp("hostile") / "hostile.jsonl"
    with running_backend("hostile", log, module="tests.support.fakes.hostile_backend") as running:
        yield running


@pytest.fixture(scope="module")
def shapes(admin: httpx.Client, hostile: RunningBackend) -> dict[str, Shape]:
    """A model and a backend entity for each shape, so that no breaker spares another shape."""
    for model, shape in SHAPES.items():
        name = f"h-{model.removeprefix('fake-')}"
        sending_s = _MEGABYTES_S if shape.family == "size" else 0.0
        # A host name, because a cookie jar would keep what comes from one.
        url = hostile.url.replace("127.0.0.1", "localhost")
        body = {"url": url, "timeout_s": SILENCE_S + sending_s}
        admin.put(f"/backends/{name}", json=body).raise_for_status()
        route = {
            "backends": [{"backend": name}],
            "input_usd_per_mtok": "0.50",
            "output_usd_per_mtok": "1.50",
            "default_max_output_tokens": 64,
        }
        admin.put(f"/models/{model}", json=route).raise_for_status()
    broken = {"backend": "h-deep", "upstream_model": "fake-deep", "weight": 1}
    targets = [broken, {"backend": "fake-a", "upstream_model": "fake-1", "weight": 0}]
    admin.put("/models/fake-over", json={**route, "backends": targets}).raise_for_status()
    return SHAPES


@asynccontextmanager
async def _neighbour(client: GatewayClient, grant: Grant) -> AsyncIterator[list[tuple[float, int]]]:
    """Another tenant's calls to healthy backends, inside the block: seconds and status."""
    seen, is_over = list[tuple[float, int]](), asyncio.Event()

    async def call_on() -> None:
        while not is_over.is_set():
            began_s = time.monotonic()
            reply = await client.chat(grant.key, steer(output_tokens=3), max_tokens=10)
            seen.append((time.monotonic() - began_s, reply.status))
            await asyncio.sleep(0.05)

    calling = asyncio.create_task(call_on())
    yield seen
    is_over.set()
    await calling


def _status(reply: Reply, shape: Shape) -> int:
    """0 for a stream that broke off."""
    is_torn = shape.stream and reply.status == 200 and reply.events[-1:] != ["[DONE]"]
    return 0 if is_torn else reply.status


async def _ask(
    client: GatewayClient, grant: Grant, model: str, shape: Shape
) -> tuple[Reply, float]:
    body = {
        "model": model,
        "messages": [{"role": "user", "content": "hi"}],
        "stream": shape.stream,
        "max_tokens": 64,
    }
    began_s = time.monotonic()
    reply = await client.post("/chat/completions", grant.key, body, {"X-Request-Timeout": "30"})
    return reply, time.monotonic() - began_s


def _booked(line: dict[str, Any]) -> str:
    if line["estimated"]:
        return "estimated"
    exact = (line["input_tokens"], line["output_tokens"]) == (PROMPT_TOKENS, COMPLETION_TOKENS)
    return "exact" if exact else "nothing"


@pytest.mark.timeout(400, func_only=True)
async def test_every_hostile_answer_costs_its_own_request_and_nothing_else(
    client: GatewayClient,
    stack: RunningStack,
    admin: httpx.Client,
    make_key: MakeKey,
    kafka_log: KafkaLog,
    hostile: RunningBackend,
    shapes: dict[str, Shape],
) -> None:
    """In time, with a typed answer, booked as it was; the neighbour is served, no process ends."""
    grant, pids = make_key("hostile-org"), lasting(stack.process.pid)
    turns, problems, ids = asyncio.Semaphore(_AT_ONCE), list[str](), dict[str, str]()

    async def try_shape(model: str, shape: Shape) -> None:
        async with turns:
            reply, took_s = await _ask(client, grant, model, shape)
        ids[reply.request_id], status = model, _status(reply, shape)
        if status not in shape.statuses:
            problems.append(f"{model}: {status} {reply.body[:200]}")
        sending_s = _MEGABYTES_S if shape.family == "size" else 0.0
        if took_s > shape.limit_s + shape.slack_s + _PATH_S + sending_s:
            problems.append(f"{model}: took {took_s:.2f} s")

    async with _neighbour(client, make_key("hostile-neighbour")) as neighbour:
        await try_shape(_SURPLUS, shapes[_SURPLUS])
        await asyncio.sleep(_SURPLUS_S)
        others = (model for model in shapes if model != _SURPLUS)
        await asyncio.gather(*(try_shape(model, shapes[model]) for model in others))
    assert problems == []
    assert {status for _, status in neighbour} == {200}
    latencies_s = sorted(seconds for seconds, _ in neighbour)
    print(f"neighbour: {len(latencies_s)} calls, p50 {latencies_s[len(latencies_s) // 2]:.3f} s, "
          f"p99 {latencies_s[int(len(latencies_s) * 0.99)]:.3f} s, max {latencies_s[-1]:.3f} s")  # fmt: skip

    calls = _calls_by_request(hostile, ids)
    lines = await asyncio.to_thread(_lines, kafka_log, ids)
    assert lines.keys() == calls.keys() == ids.keys()
    for request_id, model in ids.items():
        (line,), (_,) = lines[request_id], calls[request_id]
        shape = shapes[model]
        assert _booked(line) in {shape.booked, *(["exact"] if 200 in shape.statuses else [])}, model
    verdict = await asyncio.to_thread(admin.get, "/ledger/verify", params={"deadline_s": 20})
    assert verdict.raise_for_status().json()["difference"] == 0, verdict.text
    assert pids <= lasting(stack.process.pid), "a process was restarted"


def _calls_by_request(hostile: RunningBackend, ids: dict[str, str]) -> dict[str, list[Call]]:
    calls: dict[str, list[Call]] = {}
    for call in read_calls(hostile.log):
        if call.start.request_id in ids:
            calls.setdefault(call.start.request_id, []).append(call)
    return calls


def _lines(kafka_log: KafkaLog, ids: dict[str, str]) -> dict[str, list[dict[str, Any]]]:
    """The usage lines by request, once each request has one."""
    records = kafka_log.read(
        "usage.records.v1",
        lambda found: len({r.value["request_id"] for r in found} & ids.keys()) >= len(ids),
        _CATCH_UP_S,
    )
    lines: dict[str, list[dict[str, Any]]] = {}
    for record in records:
        if record.value["request_id"] in ids:
            lines.setdefault(record.value["request_id"], []).append(record.value)
    return lines


async def test_a_hostile_answer_before_the_first_byte_fails_over(
    client: GatewayClient,
    make_key: MakeKey,
    oracle: Oracle,
    shapes: dict[str, Shape],
) -> None:
    """The client sees the healthy backend's answer only; both attempts are booked."""
    grant = make_key("hostile-failover")
    body = {"model": "fake-over", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 9}
    reply = await client.post("/chat/completions", grant.key, body)

    assert reply.status == 200, reply.body
    assert len(oracle.calls_of([reply.request_id])) == 1


async def test_texts_of_backends_are_in_no_log_of_ours(
    client: GatewayClient, stack: RunningStack, make_key: MakeKey, shapes: dict[str, Shape]
) -> None:
    """They may quote prompts."""
    grant = make_key("hostile-logs")
    reply = await client.post(
        "/chat/completions",
        grant.key,
        {"model": "fake-latin1-error", "messages": [{"role": "user", "content": "hi"}]},
    )
    logs = await asyncio.to_thread(_logs_of, stack)

    assert "inconnu" in reply.json["error"]["message"]
    assert logs != []
    assert not any(b"inconnu" in text for text in logs)


def _logs_of(stack: RunningStack) -> list[bytes]:
    """The log files of the stack's processes."""
    return [path.read_bytes() for path in Path(stack.state_dir, "logs").iterdir()]
