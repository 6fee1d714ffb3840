"""Streams that go on after the last event that their client has."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import httpx
import pytest

from ingress.http.event_ids import numbered
from schemas.frames import Chunk, Started, Terminal
from schemas.ids import uuid7
from schemas.ledger.model.attempts import Attempt
from tests.support.configuration import NOW_MS
from tests.support.gateway import Gateway

CHAT = {"model": "echo", "messages": [{"role": "user", "content": "hi"}], "stream": True}
FRAMES = (
    Started("b", ()),
    Chunk(b"data: 1\n\ndata: 2\n\n"),
    Chunk(b"data: 3\n\n"),
    Terminal(200),
)
END = b"data: [DONE]\n\n"


async def _streamed(gateway: Gateway) -> tuple[httpx.Response, list[bytes]]:
    """A stream as its client got it, and its events."""
    gateway.log.worker = lambda _: FRAMES
    answer = await gateway.client.post("/v1/chat/completions", json=CHAT)
    request_id = answer.headers["x-request-id"]
    gateway.ledger.model.attempts["acme", request_id] = Attempt("BOOKED")
    return answer, [event + b"\n\n" for event in answer.content.split(b"\n\n") if event]


async def _resume(gateway: Gateway, event_id: str, **fields: object) -> httpx.Response:
    reader = asyncio.create_task(gateway.upkeep.catch_up_forever())
    headers = {"last-event-id": event_id}
    body = {**CHAT, **fields}
    try:
        return await gateway.client.post("/v1/chat/completions", json=body, headers=headers)
    finally:
        reader.cancel()


def _ids(events: list[bytes]) -> Iterator[str]:
    for event in events:
        found = [line[4:].decode() for line in event.split(b"\n") if line.startswith(b"id: ")]
        yield from found


async def test_a_stream_goes_on_after_each_of_its_events_and_runs_once() -> None:
    """The pieces together are the stream; the answer is that of the first request."""
    gateway = Gateway()
    first, events = await _streamed(gateway)
    ids = list(_ids(events))
    assert len(ids) == 3

    for number, event_id in enumerate(ids, start=1):
        rest = await _resume(gateway, event_id)
        assert b"".join(events[:number]) + rest.content == first.content
        assert rest.headers["x-request-id"] == first.headers["x-request-id"]
        assert rest.headers["idempotent-replayed"] == "true"
    assert len(gateway.log.records) == 1


async def test_who_has_all_events_gets_the_end() -> None:
    """It may be the end mark that was lost."""
    gateway = Gateway()
    _, events = await _streamed(gateway)
    *_, last = _ids(events)

    assert (await _resume(gateway, last)).content == END


@pytest.mark.parametrize("event_id", ["7", "x" * 500, "01a21bb1-2ed6-77e7-9e49-d6cabf0651bd/1-1"])
async def test_an_id_of_nobody_is_refused_and_nothing_runs(event_id: str) -> None:
    """It would be billed a second time."""
    gateway = Gateway()
    answer = await _resume(gateway, event_id)

    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "Last-Event-ID")
    assert gateway.log.records == []


async def test_what_was_no_stream_cannot_be_resumed() -> None:
    """The client says a header of streams, and asks for none."""
    gateway = Gateway()
    _, events = await _streamed(gateway)
    answer = await _resume(gateway, next(_ids(events)), stream=False)

    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "Last-Event-ID")
    assert len(gateway.log.records) == 1


async def test_streams_of_others_look_like_none() -> None:
    """Whatever the bus has of them: whose a request is, ledger and log know."""
    gateway = Gateway()
    _, events = await _streamed(gateway)
    attempts = gateway.ledger.model.attempts
    for name in [name for name in attempts if name[0] == "acme"]:
        attempts["other", name[1]] = attempts.pop(name)
    answer = await _resume(gateway, next(_ids(events)))

    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")


async def test_a_stream_that_is_not_kept_any_more_is_gone() -> None:
    """Or only its end is."""
    gateway = Gateway()
    _, events = await _streamed(gateway)
    (frames,) = gateway.bus.streams.values()
    for left in (frames[2:], []):
        gateway.bus.streams = {frames[0].request_id: left}
        answer = await _resume(gateway, next(_ids(events)))
        assert (answer.status_code, answer.json()["error"]["code"]) == (410, "result_expired")
    assert len(gateway.log.records) == 1


async def test_an_unknown_request_is_not_run() -> None:
    """Its id is well-formed."""
    gateway = Gateway()
    event = numbered(b"data: 1\n\n", f"{uuid7(NOW_MS, b'7' * 10)}/1-2".encode())
    answer = await _resume(gateway, next(_ids([event])))

    assert answer.status_code == 404
    assert gateway.log.records == []


async def test_a_ledger_that_is_away_does_not_run_it_again() -> None:
    """The client is told to try later."""
    gateway = Gateway()
    _, events = await _streamed(gateway)
    gateway.ledger.is_away = True
    answer = await _resume(gateway, next(_ids(events)))

    assert answer.status_code == 503
    assert len(gateway.log.records) == 1


async def test_a_resumable_stream_is_kept_as_that_of_a_request_with_a_key() -> None:
    """Only where the client says so, and only a stream."""
    gateway = Gateway()
    gateway.log.worker = lambda accepted: (
        FRAMES if accepted.stream else (Terminal(200, body=b"{}"),)
    )
    for stream, said in ((True, "1"), (True, "0"), (False, "1")):
        headers = {"x-tallygate-resumable": said}
        body = {**CHAT, "stream": stream}
        await gateway.client.post("/v1/chat/completions", json=body, headers=headers)

    assert [accepted.keep_result for accepted in gateway.log.accepted] == [True, False, False]
