"""A response that runs in the background and is followed, over a log, a bus and a ledger in memory."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import msgspec

from schemas.codec import encode
from schemas.events import RecordRef
from schemas.frames import Chunk, Frame, Started, Terminal, Usage, encode_frame
from schemas.ledger.model.attempts import Attempt
from tests.support.gateway import Content, Gateway
from tests.support.outcomes import OUTCOME

ASKED: dict[str, Any] = {
    "model": "echo",
    "input": "hi",
    "background": True,
    "stream": True,
    "metadata": {"a": "b"},
}
COMPLETION = b'{"choices":[{"message":{"content":"hi there"},"finish_reason":"stop"}]}'
USAGE = Usage(5, 7, 12_000, estimated=False)
DONE = Terminal(200, usage=USAGE)
PLACE = RecordRef(topic="inference.background.v1", partition=0, offset=0)
OPENING = ["response.created", "response.queued"]


def chunk(text: str) -> Chunk:
    """A piece of an answer."""
    return Chunk(b'data: {"choices":[{"delta":{"content":"%b"}}]}\n\n' % text.encode())


def gateway_of(*contents: Content) -> Gateway:
    """A worker answers with what its request repeats, and these frames."""
    gateway = Gateway()
    gateway.log.worker = lambda accepted: (Started("b", (), accepted.shown), *contents)
    return gateway


TOLD = (chunk("hi "), chunk("there"), DONE)


@asynccontextmanager
async def reading(gateway: Gateway) -> AsyncIterator[None]:
    """While its streams are read from the bus."""
    reader = asyncio.create_task(gateway.upkeep.catch_up_forever())
    try:
        yield
    finally:
        reader.cancel()


async def post(gateway: Gateway, **headers: str) -> httpx.Response:
    """Ask for the response."""
    async with reading(gateway):
        return await gateway.client.post("/v1/responses", json=ASKED, headers=headers)


async def get(
    gateway: Gateway, response_id: str, headers: dict[str, str] | None = None, **query: str | int
) -> httpx.Response:
    """Ask for it once more."""
    async with reading(gateway):
        path = f"/v1/responses/{response_id}"
        return await gateway.client.get(path, params=query, headers=headers)


def events_in(answer: httpx.Response) -> list[str]:
    """Its events, as they were sent."""
    return [event + "\n\n" for event in answer.text.split("\n\n") if event]


def data_in(answer: httpx.Response) -> list[dict[str, Any]]:
    """What they say."""
    lines = [line for line in answer.text.splitlines() if line.startswith("data: ")]
    return [json.loads(line[6:]) for line in lines]


def types_in(answer: httpx.Response) -> list[str]:
    """Of its events."""
    return [each["type"] for each in data_in(answer)]


def id_of(gateway: Gateway) -> str:
    """Of the response that was asked for first."""
    return f"resp_{gateway.log.accepted[0].request_id.replace('-', '')}"


def end_in_ledger(gateway: Gateway, end: Terminal, *, is_kept: bool = True) -> None:
    """The outcome of the request, with its answer where there is one and it is kept, and where its record stands."""
    request_id = gateway.log.accepted[0].request_id
    attempts = OUTCOME.attempts if end.usage else []
    outcome = msgspec.structs.replace(
        OUTCOME,
        request_id=request_id,
        parents=[PLACE],
        attempts=attempts,
        result=COMPLETION if is_kept and not end.error_code else None,
        error_code=end.error_code,
        error_message=end.error_message,
        http_status=end.http_status,
    )
    ended = Attempt("FINISHED", outcome=encode(outcome))
    gateway.ledger.model.attempts["acme", request_id] = ended
    gateway.records.values[PLACE.topic, 0, 0] = gateway.log.records[0].value or b""


async def listening(gateway: Gateway, count: int) -> None:
    """Returns once so many wait for its frames."""
    for _ in range(1_000):
        if len(gateway.pending) == count:
            return
        await asyncio.sleep(0.001)
    raise AssertionError(len(gateway.pending))


async def tell(gateway: Gateway, seq: int, content: Content) -> None:
    """One frame more."""
    request_id = gateway.log.accepted[0].request_id
    frame = Frame(request_id, 1, seq, content)
    gateway.bus.streams.setdefault(request_id, []).append(frame)
    gateway.pending.on_message(encode_frame(frame))
