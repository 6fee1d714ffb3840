"""How ingress ends: answers first, then typed errors, and never a reset."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from ingress import leaving
from ingress.leaving import Leaving
from schemas.events import RecordRef
from schemas.frames import Chunk, Started, Terminal, encode_frame
from schemas.frames import Frame as BusFrame
from schemas.ledger.model.attempts import Attempt
from tests.support.configuration import SECRET
from tests.support.gateway import Gateway
from tests.unit.ingress.raw_http import Served, serving

CHAT = {"model": "echo", "messages": [{"role": "user", "content": "hi"}]}
PATH = "/v1/chat/completions"


class _Stopping:
    """A gateway on a port with one request under way, about to be told to end."""

    def __init__(self, gateway: Gateway, served: Served, client: httpx.AsyncClient) -> None:
        self.gateway = gateway
        self.client = client
        self.served = served

    async def begin(self, **fields: Any) -> asyncio.Task[httpx.Response]:
        """Post a request; returns once a worker has it."""
        key = fields.pop("key", None)
        headers = {"idempotency-key": key} if key else {}
        asking = asyncio.create_task(self.client.post(PATH, json=CHAT | fields, headers=headers))
        await self.gateway.log.arrived.wait()
        (accepted,) = self.gateway.log.accepted
        running = Attempt("RUNNING", owner="dispatcher-0/ab")
        self.gateway.ledger.model.attempts["acme", accepted.request_id] = running
        return asking

    def end(self, content: Terminal) -> None:
        """Let the worker answer."""
        (accepted,) = self.gateway.log.accepted
        frame = BusFrame(accepted.request_id, 1, 1, content)
        self.gateway.pending.on_message(encode_frame(frame))

    async def leave(self, patience_s: float, notice_s: float = 0.0) -> None:
        """As at SIGTERM."""
        keeper, pending = self.gateway.gatekeeper, self.gateway.pending
        await Leaving(keeper, pending, self.served.server, patience_s, notice_s).run()


@asynccontextmanager
async def _stopping(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[_Stopping]:
    monkeypatch.setattr(leaving, "_LINGER_S", 0.1)
    gateway = Gateway()
    gateway.log.worker = lambda _: ()
    async with (
        serving(gateway.app) as served,
        httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{served.port}",
            headers={"x-api-key": SECRET},
            trust_env=False,
        ) as client,
    ):
        yield _Stopping(gateway, served, client)


def _code(answer: httpx.Response) -> str:
    """On either surface."""
    fields: dict[str, Any] = answer.json()
    code: str = fields["code"] if "code" in fields else fields["error"]["code"]
    return code


async def test_a_running_request_is_answered_and_nobody_new_is_accepted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The answer tells its client to connect elsewhere; readiness has said so at once."""
    async with _stopping(monkeypatch) as stopping:
        asking = await stopping.begin()
        leaves = asyncio.create_task(stopping.leave(5.0))
        await asyncio.sleep(0.2)
        with pytest.raises(httpx.ConnectError):
            async with httpx.AsyncClient(trust_env=False) as other:
                await other.get(f"http://127.0.0.1:{stopping.served.port}/v1/status/readyz")
        ready = await stopping.gateway.client.get("/v1/status/readyz")
        stopping.end(Terminal(200, body=b"{}"))
        answer = await asking
        await leaves

    assert (answer.status_code, answer.headers["connection"]) == (200, "close")
    assert ready.status_code == 503
    assert not stopping.gateway.bus.rung


async def test_readiness_says_that_it_leaves_while_whoever_connects_is_served(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A load balancer that looks every second sends nobody to a closed port."""
    async with _stopping(monkeypatch) as stopping:
        leaves = asyncio.create_task(stopping.leave(5.0, notice_s=0.5))
        await asyncio.sleep(0.1)
        async with httpx.AsyncClient(trust_env=False) as other:
            at = f"http://127.0.0.1:{stopping.served.port}/v1"
            ready = await other.get(f"{at}/status/readyz")
            served = await other.get(f"{at}/models", headers={"x-api-key": SECRET})
        await leaves

    assert (ready.status_code, served.status_code) == (503, 200)
    assert served.headers["connection"] == "close"


async def test_a_connection_that_is_kept_is_told_with_its_next_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """That request is served."""
    async with _stopping(monkeypatch) as stopping:
        await stopping.client.get("/v1/models")
        leaves = asyncio.create_task(stopping.leave(5.0))
        await asyncio.sleep(0.02)
        answer = await stopping.client.get("/v1/models")
        await leaves

    assert (answer.status_code, answer.headers["connection"]) == (200, "close")


@pytest.mark.parametrize("key", [None, "k"], ids=["without a key", "with a key"])
async def test_what_runs_longer_than_the_patience_ends_with_a_typed_error(
    key: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What has no key is cancelled; what has one runs on, and its next try joins it."""
    async with _stopping(monkeypatch) as stopping:
        asking = await stopping.begin(key=key)
        await stopping.leave(0.2)
        answer = await asking
        await stopping.gateway.cancellations.finish()

    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "service_unavailable")
    assert int(answer.headers["retry-after"]) >= 1
    assert len(stopping.gateway.bus.rung) == (0 if key else 1)
    assert len(stopping.gateway.ledger.model.claims.held) == (1 if key else 0)


async def test_a_stream_that_is_given_up_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """By an error event, and a proper end of the answer."""
    async with _stopping(monkeypatch) as stopping:
        stopping.gateway.log.worker = lambda _: (Started("b1", ()), Chunk(b"data: 1\n\n"))
        asking = await stopping.begin(stream=True)
        await stopping.leave(0.2)
        answer = await asking

    first, second = answer.text.strip().split("\n\n")
    assert (answer.status_code, first.splitlines()[0]) == (200, "data: 1")
    told = json.loads(second.removeprefix("data: "))
    assert told["error"]["code"] == "service_unavailable"


async def test_a_request_that_may_become_a_job_becomes_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its answer can be fetched from another ingress."""
    async with _stopping(monkeypatch) as stopping:
        stopping.client.headers["prefer"] = "respond-async, wait=60"
        asking = await stopping.begin()
        await stopping.leave(0.2)
        answer = await asking

    assert answer.status_code == 202
    assert stopping.gateway.bus.rung == []


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/jobs"])
async def test_what_does_not_even_wait_for_an_answer_is_told_as_well(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It looks for its key, or for the log's word: a typed error, no bare 500."""
    monkeypatch.setattr(leaving, "_LAST_WORDS_S", 0.1)
    async with _stopping(monkeypatch) as stopping:
        never: asyncio.Future[RecordRef] = asyncio.get_running_loop().create_future()
        monkeypatch.setattr(stopping.gateway.log, "send", lambda _: never)
        monkeypatch.setattr(stopping.gateway.ledger, "claim", lambda _: never)
        headers = {} if path == "/v1/jobs" else {"idempotency-key": "k"}
        asking = asyncio.create_task(stopping.client.post(path, json=CHAT, headers=headers))
        await asyncio.sleep(0.1)
        await stopping.leave(0.2)
        answer = await asking
        await stopping.gateway.cancellations.finish()

    assert (answer.status_code, _code(answer)) == (503, "service_unavailable")
    assert int(answer.headers["retry-after"]) >= 1


async def test_a_request_that_comes_to_wait_after_all_were_given_up_is_given_up_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nobody would end its wait later."""
    async with _stopping(monkeypatch) as stopping:
        stopping.gateway.pending.abandon()
        answer = await stopping.client.post(PATH, json=CHAT)
        await stopping.gateway.cancellations.finish()

    (accepted,) = stopping.gateway.log.accepted
    cancelled = stopping.gateway.ledger.model.attempts["acme", accepted.request_id]
    assert (answer.status_code, cancelled.state) == (503, "CANCELLED")
