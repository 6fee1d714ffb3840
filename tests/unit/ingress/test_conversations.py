"""Responses that go on from earlier ones, and are read again, over a log, a bus and a ledger in memory."""

from __future__ import annotations

import json
import uuid
from dataclasses import replace
from typing import Any, Final

import httpx
import msgspec
import pytest

from ingress.auth.caller import Caller
from ingress.requests import conversations
from schemas.entities import Key, Organization
from schemas.events import RecordRef
from schemas.frames import Terminal
from schemas.ids import api_key_hash, uuid7
from schemas.runtime.kafka.outcome_lookup import InLog
from tests.support.configuration import NOW_MS, PEPPER, UNKNOWN_SECRET, snapshot
from tests.support.gateway import Gateway
from tests.support.outcomes import OUTCOME

FIRST: Final[dict[str, Any]] = {
    "model": "echo",
    "instructions": "be brief",
    "input": [{"role": "user", "content": "one"}, {"role": "system", "content": "two"}],
    "metadata": {"a": "b"},
}
CALL: Final = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
SAID: Final = {"role": "assistant", "content": "three", "tool_calls": [CALL]}
COMPLETION: Final = json.dumps(
    {"choices": [{"message": SAID, "finish_reason": "tool_calls"}]}
).encode()


async def _respond(gateway: Gateway, **fields: Any) -> httpx.Response:
    return await gateway.client.post("/v1/responses", json={**FIRST, **fields})


async def _first(gateway: Gateway, **fields: Any) -> str:
    """A response that has ended and stands in the log, by its id."""
    gateway.log.worker = lambda _: (Terminal(200, COMPLETION),)
    answer = await _respond(gateway, **fields)
    assert answer.status_code == 200, answer.text
    return _keep(gateway, answer.json()["id"])


def _keep(gateway: Gateway, response_id: str, **changes: Any) -> str:
    """Its outcome and its record, as the log has them."""
    request_id = str(uuid.UUID(response_id.removeprefix("resp_")))
    number = [each.request_id for each in gateway.log.accepted].index(request_id)
    place = RecordRef(topic="inference.requests.v1", partition=0, offset=number)
    found = {"request_id": request_id, "parents": [place], "result": COMPLETION, **changes}
    gateway.traces.outcomes[request_id] = msgspec.structs.replace(OUTCOME, **found)
    asked = gateway.log.accepted[number]
    gateway.traces.accepted[request_id] = InLog(NOW_MS, is_in_time=True, request=asked)
    return response_id


def _change(gateway: Gateway, response_id: str, **changes: Any) -> None:
    """Its record, as the log has it."""
    request_id = str(uuid.UUID(response_id.removeprefix("resp_")))
    known = gateway.traces.accepted[request_id]
    assert known.request is not None
    request = msgspec.structs.replace(known.request, **changes)
    gateway.traces.accepted[request_id] = replace(known, request=request)


def _asked(gateway: Gateway) -> list[dict[str, Any]]:
    """The messages that the backend of the last request is asked with."""
    messages: list[dict[str, Any]] = json.loads(gateway.log.accepted[-1].payload)["messages"]
    return messages


async def test_a_response_goes_on_with_all_that_was_said() -> None:
    """Other instructions, but the same messages and the answer, whose calls are answered now."""
    gateway = Gateway()
    previous = await _first(gateway)
    output = {"type": "function_call_output", "call_id": "c1", "output": "four"}
    answer = await _respond(
        gateway, previous_response_id=previous, instructions="at length", input=[output]
    )

    assert answer.status_code == 200
    assert answer.json()["previous_response_id"] == previous
    assert _asked(gateway) == [
        {"role": "system", "content": "at length"},
        {"role": "user", "content": "one"},
        {"role": "system", "content": "two"},
        SAID,
        {"role": "tool", "tool_call_id": "c1", "content": "four"},
    ]


async def test_the_whole_input_is_the_new_requests() -> None:
    """Its bound counts all that its backend reads."""
    gateway = Gateway()
    previous = await _first(gateway)
    await _respond(gateway, previous_response_id=previous, input="four")
    last = gateway.log.accepted[-1]

    assert last.input_tokens_bound >= len(last.payload)
    assert last.input_tokens_bound > gateway.log.accepted[0].input_tokens_bound


async def test_a_conversation_goes_on_and_on() -> None:
    """The record before holds all that came before it, and nobody's instructions but its own."""
    gateway = Gateway()
    previous = await _first(gateway)
    for number in range(3):
        asked = {"instructions": str(number), "input": "more"}
        answer = await _respond(gateway, previous_response_id=previous, **asked)
        previous = _keep(gateway, answer.json()["id"])

    said = [message["content"] for message in _asked(gateway)]
    assert said == ["2", "one", "two", "three", "more", "three", "more", "three", "more"]


async def test_a_stored_response_is_read_again() -> None:
    """As it was answered."""
    gateway = Gateway()
    gateway.log.worker = lambda _: (Terminal(200, COMPLETION),)
    answer = (await _respond(gateway)).json()
    _keep(gateway, answer["id"])
    told = (await gateway.client.get(f"/v1/responses/{answer['id']}")).json()
    cancelled = await gateway.client.post(f"/v1/responses/{answer['id']}/cancel")

    told.pop("usage"), answer.pop("usage")  # The outcome's attempts are the sample's.
    assert told == answer
    assert cancelled.status_code == 400


async def _is_unknown(gateway: Gateway, response_id: str, **headers: str) -> bool:
    """Whether it is one that nobody can go on from, nor read; in words that say how long others are kept."""
    asked = {**FIRST, "previous_response_id": response_id}
    go_on = await gateway.client.post("/v1/responses", json=asked, headers=headers)
    told = await gateway.client.get(f"/v1/responses/{response_id}", headers=headers)
    assert go_on.status_code == told.status_code, (go_on.text, told.text)
    if go_on.status_code != 404:
        return False
    error = go_on.json()["error"]
    assert (error["code"], error["param"]) == ("not_found", "previous_response_id")
    assert "72 hours" in error["message"]
    assert "72 hours" in told.json()["error"]["message"]
    return True


async def test_one_that_was_not_stored_is_none() -> None:
    """Its record has nothing to show."""
    gateway = Gateway()
    assert not await _is_unknown(gateway, await _first(gateway))
    assert await _is_unknown(gateway, await _first(gateway, store=False))
    assert gateway.log.accepted[-1].shown is None


async def test_what_was_never_asked_is_known_without_its_end() -> None:
    """A long log of outcomes is not read for it; nor for what shows nothing again."""
    gateway = Gateway()
    never = f"resp_{uuid7(NOW_MS, bytes(10)).replace('-', '')}"
    await gateway.client.get(f"/v1/responses/{never}")
    assert gateway.traces.reads == 1
    stored = await _first(gateway, store=False)
    await gateway.client.get(f"/v1/responses/{stored}")
    assert gateway.traces.reads == 2


async def test_one_that_runs_is_none_yet() -> None:
    """It was asked, and has no outcome."""
    gateway = Gateway()
    previous = await _first(gateway)
    gateway.traces.outcomes.clear()

    assert await _is_unknown(gateway, previous)


async def test_one_of_another_organization_is_none() -> None:
    """Also where both stand in the same partition, and so in the same log."""
    gateway = Gateway()
    previous = await _first(gateway)
    known = snapshot()
    key = Key(org="other", hash=api_key_hash(PEPPER, UNKNOWN_SECRET), display="", created_at_ms=0)
    gateway.config.snapshot = replace(
        known,
        organizations={**known.organizations, "other": Organization()},
        keys={**known.keys, "key_other": key},
        key_id_by_hash={**known.key_id_by_hash, key.hash: "key_other"},
    )

    assert await _is_unknown(gateway, previous, **{"x-api-key": UNKNOWN_SECRET})


async def test_one_of_another_user_is_none() -> None:
    """To a user; programs see all of their organization."""
    gateway = Gateway()
    previous = await _first(gateway)
    members, instructions, _ = json.loads(gateway.log.accepted[0].shown or b"")
    _change(gateway, previous, shown=json.dumps([members, instructions, "somebody"]).encode())
    desk = conversations.Conversations(gateway.lookup)
    request_id = str(uuid.UUID(previous.removeprefix("resp_")))

    assert await desk.find(_user("somebody else"), request_id) is None
    assert await desk.find(_user("somebody"), request_id) is not None
    assert await desk.find(_user(None), request_id) is not None


def _user(owner: str | None) -> Caller:
    return Caller("k", "acme", None, None, None, owner=owner)


async def test_one_of_another_route_is_none() -> None:
    """Whatever its record shows."""
    gateway = Gateway()
    previous = await _first(gateway)
    _change(gateway, previous, route="messages")

    assert await _is_unknown(gateway, previous)


async def test_after_72_hours_the_log_is_not_even_asked() -> None:
    """Nor for what is no id."""
    gateway = Gateway()
    old = f"resp_{uuid7(NOW_MS - conversations.KEPT_MS - 1, bytes(10)).replace('-', '')}"
    assert await _is_unknown(gateway, old)
    assert await _is_unknown(gateway, "resp_1")
    assert gateway.traces.reads == 0


async def test_one_without_an_answer_is_no_conversation() -> None:
    """400 that names the field."""
    gateway = Gateway()
    previous = await _first(gateway)
    _keep(gateway, previous, result=None, error_code="upstream_error", http_status=502)
    answer = await _respond(gateway, previous_response_id=previous)

    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "previous_response_id"
    told = (await gateway.client.get(f"/v1/responses/{previous}")).json()
    assert told["status"] == "failed"


async def test_a_conversation_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A longer one is sent by its client."""
    monkeypatch.setattr(conversations, "CONVERSATION_BYTES_MAX", 100)
    gateway = Gateway()
    previous = await _first(gateway)
    answer = await _respond(gateway, previous_response_id=previous)

    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "previous_response_id"


async def test_while_the_log_is_away_nobody_is_told_that_there_is_none() -> None:
    """503, come again."""
    gateway = Gateway()
    previous = await _first(gateway)
    gateway.traces.is_readable = False
    answer = await _respond(gateway, previous_response_id=previous)

    assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")


async def test_an_escaped_name_is_not_overlooked() -> None:
    """Or an answer would come that knows nothing of what was said before."""
    gateway = Gateway()
    body = b'{"model":"echo","input":"hi","previous\\u005fresponse_id":"resp_1"}'
    headers = {"content-type": "application/json"}
    answer = await gateway.client.post("/v1/responses", content=body, headers=headers)

    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "previous_response_id"
