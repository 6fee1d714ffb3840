"""Responses that are answered at once, end to end over a log, a bus and a ledger in memory."""

from __future__ import annotations

import json
import uuid
from typing import Any

import httpx
import msgspec
import pytest
from openai.types.responses import Response

from ingress.endpoints import responses
from schemas.codec import encode
from schemas.events import RecordRef, RequestFinished
from schemas.frames import Frame, Terminal, Usage
from schemas.ids import uuid7
from schemas.ledger.model.attempts import Attempt
from tests.support.configuration import NOW_MS
from tests.support.gateway import Gateway
from tests.support.outcomes import OUTCOME

ASKED: dict[str, Any] = {
    "model": "echo",
    "input": "hi",
    "background": True,
    "instructions": "be brief",
    "metadata": {"a": "b"},
}
COMPLETION = b'{"choices":[{"message":{"content":"hi there"},"finish_reason":"stop"}]}'
DONE = Terminal(200, COMPLETION, backend="b1", usage=Usage(5, 7, 12_000, estimated=False))
PLACE = RecordRef(topic="inference.background.v1", partition=0, offset=0)


def _without_worker() -> Gateway:
    gateway = Gateway()
    gateway.log.worker = lambda _: ()
    return gateway


async def _submit(gateway: Gateway, **headers: str) -> dict[str, Any]:
    answer = await gateway.client.post("/v1/responses", json=ASKED, headers=headers)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    Response.model_validate(found)
    return found


def _request_id(response: dict[str, Any]) -> str:
    return str(uuid.UUID(response["id"].removeprefix("resp_")))


def _end(gateway: Gateway, request_id: str, terminal: Terminal) -> None:
    """On the bus, and in the ledger with the place of the record that it follows from."""
    gateway.bus.streams[request_id] = [Frame(request_id, 1, 1, terminal)]
    finished = Attempt("FINISHED", outcome=encode(_finished(request_id)))
    gateway.ledger.model.attempts["acme", request_id] = finished
    place = (PLACE.topic, PLACE.partition, PLACE.offset)
    gateway.records.values[place] = gateway.log.records[0].value or b""


def _finished(request_id: str) -> RequestFinished:
    known = {"request_id": request_id, "parents": [PLACE], "result": COMPLETION}
    return msgspec.structs.replace(OUTCOME, **known)


async def _get(gateway: Gateway, response: dict[str, Any], **query: str) -> httpx.Response:
    return await gateway.client.get(f"/v1/responses/{response['id']}", params=query)


async def test_it_is_promised_and_runs_as_a_job() -> None:
    """200 and queued, with what it repeats; its time is that of a job."""
    gateway = _without_worker()
    response = await _submit(gateway)

    (accepted,) = gateway.log.accepted
    assert (response["status"], response["background"]) == ("queued", True)
    assert (response["metadata"], response["store"]) == ({"a": "b"}, True)
    assert _request_id(response) == accepted.request_id
    assert (accepted.reply_to, accepted.keep_result, accepted.background) == (None, True, True)
    assert accepted.deadline_ms == NOW_MS + 600_000
    assert (await gateway.client.get(f"/v1/jobs/{accepted.request_id}")).json()["id"]


async def test_its_time_is_the_clients_to_state() -> None:
    """As that of all others."""
    gateway = _without_worker()
    await _submit(gateway, **{"x-request-timeout": "7"})

    assert gateway.log.accepted[0].deadline_ms == NOW_MS + 7_000


async def test_it_is_followed_to_its_answer() -> None:
    """queued, in_progress, completed; what it repeats comes back with its answer."""
    gateway = _without_worker()
    response = await _submit(gateway)
    request_id, seen = _request_id(response), []
    for state in ("", "RESERVED", "RUNNING"):
        if state:
            gateway.ledger.model.attempts["acme", request_id] = Attempt(state)
        answer = await _get(gateway, response)
        Response.model_validate(answer.json())
        seen.append((answer.json()["status"], answer.headers.get("retry-after")))
    _end(gateway, request_id, DONE)
    told = (await _get(gateway, response)).json()

    Response.model_validate(told)
    assert seen == [("queued", "2"), ("queued", "2"), ("in_progress", "2")]
    assert (told["id"], told["status"]) == (response["id"], "completed")
    assert told["output"][0]["content"][0]["text"] == "hi there"
    assert (told["instructions"], told["metadata"]) == ("be brief", {"a": "b"})
    assert told["usage"]["total_tokens"] == 12


async def test_what_it_repeats_may_be_gone() -> None:
    """Then the answer is told alone."""
    gateway = _without_worker()
    response = await _submit(gateway)
    _end(gateway, _request_id(response), DONE)
    gateway.records.values.clear()
    told = (await _get(gateway, response)).json()

    assert (told["status"], told["metadata"]) == ("completed", {})


async def test_one_that_failed_has_an_error() -> None:
    """OpenAI's code, ours beside it."""
    gateway = _without_worker()
    response = await _submit(gateway)
    end = Terminal(504, error_code="deadline_exceeded", error_message="late")
    _end(gateway, _request_id(response), end)
    told = (await _get(gateway, response)).json()

    Response.model_validate(told)
    assert told["status"] == "failed"
    assert (told["error"]["code"], told["error"]["gateway_code"]) == (
        "server_error",
        "deadline_exceeded",
    )


async def test_one_that_has_not_begun_is_cancelled_at_once() -> None:
    """Without an error; once more, it is what it is."""
    gateway = _without_worker()
    response = await _submit(gateway)
    path = f"/v1/responses/{response['id']}/cancel"
    first, second = [await gateway.client.post(path) for _ in range(2)]

    assert first.json() == second.json()
    assert (first.json()["status"], first.json()["error"]) == ("cancelled", None)


async def test_one_that_runs_is_cancelled_by_its_owner(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is waited for a moment, and told as it is then."""
    monkeypatch.setattr(responses, "_LOOK_EVERY_S", 0.0)
    gateway = _without_worker()
    response = await _submit(gateway)
    running = Attempt("RUNNING", owner="dispatcher-1/ab")
    gateway.ledger.model.attempts["acme", _request_id(response)] = running
    told = await gateway.client.post(f"/v1/responses/{response['id']}/cancel")

    assert told.json()["status"] == "in_progress"
    assert gateway.bus.rung == [("dispatcher-1/ab", _request_id(response))]


async def test_there_is_none_of_another_id() -> None:
    """404 in OpenAI's form, which says how long they are kept."""
    gateway = _without_worker()
    foreign = uuid7(NOW_MS, b"0123456789")
    gateway.ledger.model.attempts["acme", foreign] = Attempt("RUNNING")
    for each in (f"resp_{foreign.replace('-', '')}", "resp_x", foreign, "x/y"):
        answer = await gateway.client.get(f"/v1/responses/{each}")
        assert answer.status_code == 404
        assert answer.json()["error"]["code"] == "not_found"
    assert "72 hours" in (await gateway.client.get("/v1/responses/resp_x")).text


async def test_a_job_of_another_route_is_none() -> None:
    """Once it has ended, which its record tells."""
    gateway = _without_worker()
    chat = {"model": "echo", "messages": [{"role": "user", "content": "hi"}]}
    job_id = (await gateway.client.post("/v1/jobs", json=chat)).json()["id"]
    _end(gateway, job_id, DONE)
    answer = await gateway.client.get(f"/v1/responses/resp_{job_id.replace('-', '')}")

    assert answer.status_code == 404


async def test_one_that_was_not_asked_for_as_a_stream_cannot_be_read_as_one() -> None:
    """400 that names the parameter and says how it can be; false is as good as none."""
    gateway = _without_worker()
    response = await _submit(gateway)

    refused = await _get(gateway, response, stream="true")
    error = refused.json()["error"]
    assert (refused.status_code, error["param"]) == (400, "stream")
    assert "background=true and stream=true" in error["message"]
    assert (await _get(gateway, response, stream="false")).status_code == 200


async def test_while_the_log_is_away_nobody_is_told_that_there_is_none() -> None:
    """503, come again."""
    gateway = _without_worker()
    response = await _submit(gateway)
    _end(gateway, _request_id(response), DONE)
    gateway.records.is_away = True
    answer = await _get(gateway, response)

    assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")


async def test_a_repeated_one_is_promised_in_the_same_words(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is produced once."""
    monkeypatch.setattr("ingress.requests.claims._SEEN_WITHIN_S", 0.1)
    gateway = _without_worker()
    first = await _submit(gateway, **{"idempotency-key": "k"})
    second = await _submit(gateway, **{"idempotency-key": "k"})

    assert first == second
    assert len(gateway.log.records) == 1


async def test_one_whose_answer_is_not_stored_is_refused() -> None:
    """400 that names the field, and nothing is produced."""
    gateway = _without_worker()
    answer = await gateway.client.post("/v1/responses", json={**ASKED, "store": False})

    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "store")
    assert gateway.log.records == []


async def test_the_record_tells_what_is_repeated() -> None:
    """Encoded by its surface."""
    gateway = _without_worker()
    await _submit(gateway)
    (accepted,) = gateway.log.accepted

    members, instructions, owner = json.loads(accepted.shown or b"")
    assert (members["instructions"], instructions, owner) == ("be brief", 1, None)
