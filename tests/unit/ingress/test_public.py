"""The public routes, end to end over a log and a bus in memory."""

from __future__ import annotations

import asyncio
import json
import uuid

import httpx
import pytest

from ingress.apis import answer_format
from schemas.events import RateStatus
from schemas.frames import Chunk, Started, Terminal, Usage
from schemas.topics import REQUESTS
from tests.support.configuration import LIMITED_SECRET, NOW_MS
from tests.support.events_told import without_ids
from tests.support.gateway import Gateway

USAGE = Usage(5, 7, 12_000, estimated=False)
DONE = Terminal(200, body=b'{"id": "c"}', backend="b1", latency_ms=3, usage=USAGE)
CHUNKS = (Started("b1", ()), Chunk(b"data: 1\n\n"), Chunk(b"data: 2\n\n"), Terminal(200))
_RATE = RateStatus(id="org:requests_per_s", limit=20, remaining=3, reset_ms=1_700)
JSON = {"content-type": "application/json"}


async def test_the_backends_body_is_relayed_verbatim() -> None:
    """With the request's id, backend and cost in headers."""
    gateway = Gateway()
    gateway.log.worker = lambda _: (DONE,)

    answer = await gateway.chat()

    assert (answer.status_code, answer.content) == (200, DONE.body)
    assert answer.headers["x-request-id"] == gateway.log.accepted[0].request_id
    assert answer.headers["x-tallygate-backend"] == "b1"
    assert answer.headers["x-tallygate-cost-usd"] == "0.000012000"
    assert len(gateway.pending) == 0


async def test_an_accepted_request_is_produced_once_under_its_organization() -> None:
    """With everything the workers need to know, and headers to route by."""
    gateway = Gateway()

    await gateway.chat()

    (record,), (accepted,) = gateway.log.records, gateway.log.accepted
    headers = dict(record.headers)
    assert (record.topic, record.key) == (REQUESTS, b"acme")
    assert headers["request_id"] == accepted.request_id.encode()
    assert headers["ce_type"] == b"dev.tallygate.request.accepted.v1"
    assert headers["deadline_ms"] == b"%d" % (NOW_MS + 120_000)
    assert (accepted.key_id, accepted.route, accepted.model) == (
        "key_a",
        "chat.completions",
        "echo",
    )
    assert (accepted.reply_to, accepted.config_offset) == ("ing:ingress-0", 7)
    assert accepted.produce_by_ms == NOW_MS + 10_000
    assert accepted.output_tokens_bound == 100


async def test_chunks_are_relayed_and_the_stream_has_an_end_mark() -> None:
    """As server-sent events that no proxy may buffer."""
    gateway = Gateway()
    gateway.log.worker = lambda _: CHUNKS

    answer = await gateway.chat(stream=True)

    assert without_ids(answer.content) == b"data: 1\n\ndata: 2\n\ndata: [DONE]\n\n"
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["x-accel-buffering"] == "no"


async def test_a_stream_that_is_refused_keeps_its_status() -> None:
    """No header goes out before the verdict."""
    gateway = Gateway()
    gateway.log.worker = lambda _: (Terminal(402, error_code="BUDGET_EXCEEDED"),)

    answer = await gateway.chat(stream=True)

    assert answer.status_code == 402
    assert answer.json()["error"]["code"] == "BUDGET_EXCEEDED"


async def test_a_stream_that_breaks_off_says_so() -> None:
    """By an error event and without an end mark, since a silent end reads as success."""
    gateway = Gateway()
    failed = Terminal(502, error_code="upstream_interrupted", error_message="It broke off.")
    gateway.log.worker = lambda _: (*CHUNKS[:2], failed)

    answer = await gateway.chat(stream=True)

    first, second = answer.text.strip().split("\n\n")
    assert first.splitlines()[0] == "data: 1"
    assert json.loads(second.removeprefix("data: "))["error"]["code"] == "upstream_interrupted"


async def test_frames_that_were_not_announced_are_read_after_a_resubscription() -> None:
    """Pub/sub keeps nothing, the stream does."""
    gateway = Gateway()
    gateway.log.worker = lambda _: CHUNKS
    gateway.log.is_announcing = False
    reader = asyncio.create_task(gateway.upkeep.catch_up_forever())
    asking = asyncio.create_task(gateway.chat(stream=True))
    await gateway.log.arrived.wait()

    gateway.pending.on_subscribed()
    answer = await asking
    reader.cancel()

    assert without_ids(answer.content) == b"data: 1\n\ndata: 2\n\ndata: [DONE]\n\n"


async def test_a_request_that_cannot_be_queued_is_a_503() -> None:
    """With a hint when to come back."""
    gateway = Gateway()
    gateway.log.is_away = True

    answer = await gateway.chat()

    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "2"
    assert answer.json()["error"]["code"] == "service_unavailable"


async def test_a_full_gateway_refuses_at_the_door() -> None:
    """Before anything is read or produced."""
    gateway = Gateway(inflight_max=1)
    gateway.log.worker = lambda _: ()
    waiting = asyncio.create_task(gateway.chat())
    await gateway.log.arrived.wait()

    answer = await gateway.chat()
    waiting.cancel()

    assert (answer.status_code, len(gateway.log.records)) == (503, 1)
    assert answer.json()["error"]["code"] == "server_is_overloaded"


async def test_who_comes_while_the_process_starts_waits_for_its_doors() -> None:
    """A balancer sends requests as soon as the port is there; health does not wait."""
    gateway = Gateway()
    gateway.gatekeeper.is_open = False
    early = asyncio.create_task(gateway.chat())
    health = await gateway.client.get("/v1/status/healthz")
    gateway.gatekeeper.open()

    assert health.status_code == 200
    assert (await early).status_code == 200


async def test_nothing_is_accepted_before_everything_is_connected(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A configuration that was not read knows no key, and must not answer 401."""
    monkeypatch.setattr("ingress.gatekeeper.gatekeeper._OPENS_WITHIN_S", 0.05)
    gateway = Gateway()
    gateway.gatekeeper.is_open = False

    assert (await gateway.chat()).status_code == 503
    assert (await gateway.client.get("/v1/models")).status_code == 503


@pytest.mark.parametrize(
    ("status", "code", "headers", "content"),
    [
        (401, "invalid_api_key", {"x-api-key": "no"}, b"{}"),
        (415, "unsupported_media_type", {"content-type": "text/plain"}, b"{}"),
        (415, "unsupported_media_type", {"content-encoding": "gzip"}, b"{}"),
        (413, "body_too_large", {}, b" " * 2_000),
        (400, "invalid_json", {}, b"{"),
        (400, "invalid_request", {}, b"{}"),
        (400, "invalid_request", {"x-request-timeout": "soon"}, b"{}"),
    ],
)
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/inference"])
async def test_bad_requests_are_refused_and_never_produced(
    path: str, status: int, code: str, headers: dict[str, str], content: bytes
) -> None:
    """Each with its status, its code and an id to ask about."""
    gateway = Gateway(max_body_bytes=1_024)

    answer = await gateway.client.post(path, headers={**JSON, **headers}, content=content)

    body = answer.json()
    assert (answer.status_code, gateway.log.records) == (status, [])
    assert (body["code"] if path == "/v1/inference" else body["error"]["code"]) == code
    assert uuid.UUID(answer.headers["x-request-id"]).version == 7


async def test_an_unknown_model_is_never_produced() -> None:
    """404 with the models the key may use."""
    gateway = Gateway()

    answer = await gateway.chat(model="nope")

    assert (answer.status_code, gateway.log.records) == (404, [])
    assert "capped, echo" in answer.json()["error"]["message"]


async def test_a_chunked_body_is_counted_as_it_comes() -> None:
    """It announces no length."""
    gateway = Gateway(max_body_bytes=1_024)

    async def parts() -> object:
        for _ in range(3):
            yield b" " * 500

    answer = await gateway.client.post(
        "/v1/chat/completions",
        headers=JSON,
        content=parts(),  # type: ignore[arg-type]
    )

    assert answer.status_code == 413


@pytest.mark.parametrize(
    ("method", "path", "status", "is_native"),
    [
        ("GET", "/v1/nope", 404, False),
        ("GET", "/v1/jobs/nope", 404, True),
        ("GET", "/v1/chat/completions", 405, False),
        ("GET", "/v1/inference", 405, True),
        ("POST", "/v1/inference/", 404, True),
    ],
)
async def test_unknown_routes_are_refused_in_the_surfaces_words(
    method: str, path: str, status: int, is_native: bool
) -> None:
    """Problem documents on native routes, OpenAI's error object elsewhere."""
    answer = await Gateway().client.request(method, path)

    assert answer.status_code == status
    assert ("problem" in answer.headers["content-type"]) is is_native


async def test_models_are_listed_in_openais_shape() -> None:
    """A single one too."""
    client = Gateway().client

    listed = (await client.get("/v1/models")).json()
    one = (await client.get("/v1/models/echo")).json()

    assert [model["id"] for model in listed["data"]] == ["capped", "echo"]
    assert one in listed["data"]
    unknown = await client.get("/v1/models/of/nobody")
    closed = await client.get("/v1/models/echo", headers={"x-api-key": LIMITED_SECRET})
    assert [answer.status_code for answer in (unknown, closed)] == [404, 404]
    assert closed.json()["error"]["code"] == unknown.json()["error"]["code"] == "model_not_found"


async def test_readiness_needs_the_log_the_bus_and_the_configuration() -> None:
    """The ledger is named too, but only the admin API needs it here."""
    gateway = Gateway()

    async def ready(**components: str) -> httpx.Response:
        gateway.components = {**gateway.components, **components}
        return await gateway.client.get("/v1/status/readyz")

    assert (await ready()).status_code == 200
    degraded = await ready(ledger="not connected")
    assert (degraded.status_code, degraded.json()["status"]) == (200, "degraded")
    unavailable = await ready(bus="not connected")
    assert (unavailable.status_code, unavailable.json()["status"]) == (503, "unavailable")
    assert (await gateway.client.get("/v1/status/healthz")).status_code == 200


async def test_a_bug_costs_one_request_its_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """500 with an id, and the next request is served."""
    gateway = Gateway()
    monkeypatch.setattr(answer_format, "go_duration", lambda _: 1 // 0)
    gateway.log.worker = lambda _: (Terminal(200, rates=(_RATE,)),)

    answer = await gateway.chat()

    assert answer.status_code == 500
    assert answer.json()["error"]["code"] == "internal_error"
    assert answer.headers["x-request-id"]
    assert len(gateway.pending) == 0
