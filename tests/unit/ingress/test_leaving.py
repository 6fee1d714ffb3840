"""Clients that leave before their answer: what is cancelled, and what is not."""

from __future__ import annotations

import asyncio
import json

from starlette.types import Message, Scope

from ingress.endpoints.status import StatusRoutes
from ingress.routes import create_public_app
from schemas.ledger.model.attempts import Attempt
from tests.support.configuration import SECRET
from tests.support.gateway import Gateway

CHAT = {"model": "echo", "messages": [{"role": "user", "content": "hi"}]}


async def _leave(gateway: Gateway, *headers: tuple[bytes, bytes], stream: bool = False) -> None:
    """Post a chat completion that is running, and leave."""
    gateway.log.worker = lambda _: ()
    scope: Scope = {
        "type": "http",
        "method": "POST",
        "path": "/v1/chat/completions",
        "query_string": b"",
        "headers": [
            (b"x-api-key", SECRET.encode()),
            (b"content-type", b"application/json"),
            *headers,
        ],
    }
    body = json.dumps({**CHAT, "stream": stream}).encode()
    messages: list[Message] = [
        {"type": "http.request", "body": body},
        {"type": "http.disconnect"},
    ]

    async def receive() -> Message:
        return messages.pop(0)

    async def send(_: Message) -> None:
        raise AssertionError("nobody is there to be answered")

    status = StatusRoutes(gateway.health, gateway.metrics, lambda: 0)
    app = create_public_app(gateway.public, status, gateway.metrics)
    asking = asyncio.create_task(app(scope, receive, send))
    await gateway.log.arrived.wait()
    (accepted,) = gateway.log.accepted
    running = Attempt("RUNNING", owner="dispatcher-0/ab")
    gateway.ledger.model.attempts["acme", accepted.request_id] = running
    gateway.upkeep.sweep(asyncio.get_running_loop().time() + 0.2)
    await asking
    await gateway.cancellations.finish()


async def test_a_request_that_nobody_waits_for_is_cancelled() -> None:
    """Its owner is told at once; streams as well."""
    for stream in (False, True):
        gateway = Gateway()
        await _leave(gateway, stream=stream)

        (accepted,) = gateway.log.accepted
        assert gateway.ledger.model.attempts["acme", accepted.request_id].cancel
        assert gateway.bus.rung == [("dispatcher-0/ab", accepted.request_id)]


async def test_a_request_with_a_key_runs_on() -> None:
    """Its client will ask again."""
    gateway = Gateway()
    await _leave(gateway, (b"idempotency-key", b"k"))

    assert gateway.bus.rung == []


async def test_a_request_that_may_become_a_job_runs_on() -> None:
    """Its answer can be fetched."""
    gateway = Gateway()
    await _leave(gateway, (b"prefer", b"respond-async, wait=60"))

    assert gateway.bus.rung == []


async def test_an_answer_that_breaks_off_cancels_what_nobody_waits_for() -> None:
    """Its task was ended from outside: a client that does not read, or a process that stops."""
    gateway = Gateway()
    gateway.log.worker = lambda _: ()
    asking = asyncio.create_task(gateway.chat())
    await gateway.log.arrived.wait()
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    await gateway.cancellations.finish()

    (accepted,) = gateway.log.accepted
    assert gateway.ledger.model.attempts["acme", accepted.request_id].state == "CANCELLED"
