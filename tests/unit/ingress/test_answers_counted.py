"""Every answer of the public port is counted once, by operation, status and code."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send

from ingress.gatekeeper.gatekeeper import Gatekeeper
from ingress.http.middleware import GONE, RequestMiddleware
from schemas.errors import ERRORS, ErrorCode
from schemas.frames import Chunk, Started, Terminal
from tests.support.gateway import Gateway
from tests.support.samples import sample, samples

_CHAT = "/v1/chat/completions"
_FAILED = Terminal(502, error_code="upstream_interrupted", error_message="broke off")


def _counted(gateway: Gateway) -> dict[tuple[str, str, str], float]:
    """Operation, status and code to how many answers."""
    found = samples(gateway.metrics.page().decode())
    return {
        (by["operation"], by["status"], by["code"]): count
        for (name, labels), count in found.items()
        if name == "tallygate_requests_total"
        for by in (dict(labels),)
    }


async def test_a_success_has_no_code() -> None:
    """Unknown paths share one label, so that nobody can grow the metrics."""
    gateway = Gateway()
    await gateway.chat()
    await gateway.client.get("/v1/nope")

    assert _counted(gateway) == {
        ("chat.completions", "200", ""): 1,
        ("other", "404", "not_found"): 1,
    }


@pytest.mark.parametrize(
    ("fields", "status", "code"),
    [
        ({"model": "none"}, "404", "model_not_found"),
        ({"n": 99}, "400", "invalid_request"),
        ({"messages": "text"}, "400", "invalid_request"),
    ],
)
async def test_a_refusal_is_counted_by_its_code(
    fields: Mapping[str, Any], status: str, code: str
) -> None:
    """Whoever refuses it, before the log or behind it."""
    gateway = Gateway()
    await gateway.chat(**fields)

    assert _counted(gateway) == {("chat.completions", status, code): 1}


@pytest.mark.parametrize("is_stream", [False, True])
@pytest.mark.parametrize("code", list(ErrorCode))
async def test_what_workers_refuse_is_counted_by_its_code(code: ErrorCode, is_stream: bool) -> None:
    gateway = Gateway()
    status = ERRORS[code].status
    gateway.log.worker = lambda _: (Terminal(status, error_code=code),)

    await gateway.chat(stream=is_stream)

    assert _counted(gateway) == {("chat.completions", str(status), code.value): 1}


async def test_a_code_of_a_newer_version_is_none_of_its_own() -> None:
    """The list is closed: what it does not have is an error of ours."""
    gateway = Gateway()
    gateway.log.worker = lambda _: (Terminal(500, error_code="of_tomorrow"),)

    await gateway.chat()

    assert _counted(gateway) == {("chat.completions", "500", "internal_error"): 1}


async def test_a_stream_that_breaks_off_is_no_success() -> None:
    """Its status was told long before; its code says how it ended."""
    gateway = Gateway()
    gateway.log.worker = lambda _: (Started("b1", ()), Chunk(b"data: 1\n\n"), _FAILED)

    answer = await gateway.chat(stream=True)

    assert answer.status_code == 200
    assert _counted(gateway) == {("chat.completions", "200", "upstream_interrupted"): 1}


async def test_a_defect_is_counted_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    gateway = Gateway()

    def breaks(*_: object, **__: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(Gatekeeper, "enter", breaks)
    await gateway.chat()

    assert _counted(gateway) == {("chat.completions", "500", "internal_error"): 1}


async def test_a_defect_behind_a_begun_answer_is_no_success() -> None:
    """Its status is out, its code says what became of it."""
    gateway = Gateway()

    async def breaks_off(_: Scope, __: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise RuntimeError("a bug")

    async def nothing() -> dict[str, Any]:
        return {}

    async def unheard(_: Message) -> None:
        pass

    keeper = gateway.gatekeeper
    app = RequestMiddleware(breaks_off, metrics=gateway.metrics, clock=keeper.clock, doors=keeper)
    with pytest.raises(RuntimeError):
        await app({"type": "http", "path": _CHAT, "headers": []}, nothing, unheard)

    assert _counted(gateway) == {("chat.completions", "200", "internal_error"): 1}


async def test_a_client_that_left_is_told_apart() -> None:
    """Nobody is to blame, and nobody was served."""
    gateway = Gateway()

    async def receive() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    async def send(_: object) -> None:
        raise AssertionError("nobody is there")

    scope = {
        "type": "http",
        "method": "POST",
        "path": _CHAT,
        "headers": [(b"x-api-key", gateway.client.headers["x-api-key"].encode())],
    }
    scope["headers"] += [(b"content-type", b"application/json")]  # type: ignore[operator]
    await gateway.app(scope, receive, send)

    assert _counted(gateway) == {("chat.completions", "499", GONE): 1}


async def test_an_answered_request_has_its_stages_and_its_model() -> None:
    """From the times of its events: what the workers took is theirs, the rest is ours."""
    gateway = Gateway()
    gateway.log.worker = lambda _: (Terminal(200, body=b"{}", latency_ms=0),)

    await gateway.chat()

    stage = "tallygate_stage_duration_seconds_count"
    assert sample(gateway.metrics, stage, stage="ingress") == 1
    assert sample(gateway.metrics, stage, stage="reply") == 1
    assert sample(
        gateway.metrics,
        "gen_ai_server_request_duration_seconds_count",
        gen_ai_operation_name="chat",
        gen_ai_provider_name="tallygate",
        gen_ai_request_model="echo",
        error_type="",
    ) == 1  # fmt: skip


async def test_a_refused_request_has_no_stages_and_no_model_that_a_client_made_up() -> None:
    gateway = Gateway()
    await gateway.chat(model="made-up")

    page = gateway.metrics.page().decode()
    assert "made-up" not in page
    assert "tallygate_stage_duration_seconds_bucket" not in page


async def test_the_exemplar_of_a_request_is_its_id_and_its_trace() -> None:
    """So that a slow one on a graph is found with `requests show`, or in the traces."""
    gateway = Gateway()
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    gateway.client.headers["traceparent"] = f"00-{trace}-00f067aa0ba902b7-01"
    answer = await gateway.chat()

    asked = {"accept": "application/openmetrics-text; version=1.0.0"}
    page = (await gateway.client.get("/metrics", headers=asked)).text
    request_id = answer.headers["x-request-id"]
    assert f'# {{request_id="{request_id}",trace_id="{trace}"}}' in page
