"""Answers of chat completions as OpenAI's responses: whole, and as events that the SDK adds up."""

from __future__ import annotations

import json
from typing import Any, Final

import pytest
from openai import omit
from openai.lib.streaming.responses._responses import ResponseStreamState
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from ingress.apis.openai.responses import answers
from ingress.apis.openai.responses.answers import ResponseFormat
from ingress.apis.openai.responses.shown import shown_of
from ingress.http.refusals import Refusal
from schemas.errors import ErrorCode
from schemas.frames import Chunk, Started, Terminal, Usage
from schemas.ids import uuid7
from tests.support.configuration import NOW_MS
from tests.support.gateway import Gateway

ID: Final = uuid7(NOW_MS, bytes(10))
HEX: Final = ID.replace("-", "")
SHOWN: Final = bytes(shown_of({"instructions": "be brief", "metadata": {"a": "b"}}).members)
USAGE: Final = Usage(
    12, 5, 40, estimated=False, cached_tokens=4, cache_write_tokens=2, reasoning_tokens=3
)
TOLD: Final = {
    "input_tokens": 12,
    "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 2},
    "output_tokens": 5,
    "output_tokens_details": {"reasoning_tokens": 3},
    "total_tokens": 17,
}
_EVENT: Final[TypeAdapter[Any]] = TypeAdapter(ResponseStreamEvent)
A_CALL: Final = {"id": "c1", "function": {"name": "f", "arguments": '{"x":1}'}}


def _form() -> ResponseFormat:
    return ResponseFormat(ID, "m", SHOWN)


def _whole(message: Any, finish_reason: Any = "stop", **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "message": message, "finish_reason": finish_reason, **more}
    body = _form().body(Terminal(200, json.dumps({"choices": [choice]}).encode(), usage=USAGE))
    assert isinstance(body, bytes)
    found: dict[str, Any] = json.loads(body)
    Response.model_validate(found)
    return found


def _chunk(delta: Any, finish_reason: str | None = None, **more: Any) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason, **more}
    return b"data: %b\n\n" % json.dumps({"choices": [choice]}).encode()


def _read(told: bytes) -> list[dict[str, Any]]:
    """The events, each checked by the SDK's own types and numbered in order."""
    found = []
    for event in told.decode().split("\n\n")[:-1]:
        lines = [line for line in event.split("\n") if not line.startswith(":")]
        name, data = lines
        found.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {found[-1]['type']}"
        _EVENT.validate_python(found[-1])
    assert [event["sequence_number"] for event in found] == list(range(len(found)))
    return found


def _streamed(*deltas: Any, finish_reason: str = "stop") -> list[dict[str, Any]]:
    chunks = [*map(_chunk, deltas), _chunk({}, finish_reason)]
    form = _form()
    return _read(
        b"".join([*map(form.events, chunks), form.last_events(Terminal(200, usage=USAGE))])
    )


def _added_up(events: list[dict[str, Any]]) -> dict[str, Any]:
    """The output that the SDK makes of events; its assertions are part of the test."""
    state = ResponseStreamState(input_tools=omit, text_format=omit)
    for event in events:
        state.handle_event(_EVENT.validate_python(event))
    assert state._completed_response is not None
    found: dict[str, Any] = state._completed_response.to_dict()
    return found


def test_an_answer_is_a_response_with_what_is_billed() -> None:
    """Its id is the request's, and it repeats what was asked."""
    response = _whole({"role": "assistant", "content": "hi there"})

    assert (response["id"], response["object"]) == (f"resp_{HEX}", "response")
    assert (response["status"], response["created_at"]) == ("completed", NOW_MS // 1000)
    assert (response["instructions"], response["metadata"]) == ("be brief", {"a": "b"})
    assert response["usage"] == TOLD
    (item,) = response["output"]
    assert item == {
        "id": f"msg_{HEX}_0",
        "type": "message",
        "role": "assistant",
        "status": "completed",
        "content": [{"type": "output_text", "text": "hi there", "annotations": [], "logprobs": []}],
    }


def test_calls_are_items_behind_the_text() -> None:
    """Each of its own, also where the backend gives them no ids."""
    calls = [A_CALL, {"function": {"name": "g", "arguments": {"y": 2}}}]
    response = _whole({"content": "so", "tool_calls": calls}, "tool_calls")

    _, first, second = response["output"]
    assert (first["type"], first["call_id"], first["name"]) == ("function_call", "c1", "f")
    assert (first["arguments"], first["status"]) == ('{"x":1}', "completed")
    assert (second["call_id"], second["arguments"]) == (f"call_{HEX}_2", '{"y":2}')


def test_a_refusal_is_a_part_of_the_message() -> None:
    """As OpenAI's is."""
    (item,) = _whole({"refusal": "no"})["output"]

    assert item["content"] == [{"type": "refusal", "refusal": "no"}]


@pytest.mark.parametrize(
    ("finish_reason", "reason"),
    [("length", "max_output_tokens"), ("content_filter", "content_filter")],
)
def test_what_was_cut_off_is_incomplete(finish_reason: str, reason: str) -> None:
    """The response and its last item, with the reason; whole and streamed."""
    response = _whole({"content": "hi"}, finish_reason)
    events = _streamed({"content": "hi"}, finish_reason=finish_reason)

    for each in (response, events[-1]["response"]):
        assert (each["status"], each["incomplete_details"]) == ("incomplete", {"reason": reason})
        assert each["output"][-1]["status"] == "incomplete"
    assert events[-1]["type"] == "response.incomplete"


def test_logprobs_of_the_text_are_told_as_they_came() -> None:
    """In the text, and in the events of a stream."""
    token = {"token": "hi", "logprob": -0.1, "bytes": [104, 105], "top_logprobs": []}
    logprobs: dict[str, Any] = {"logprobs": {"content": [token]}}
    (item,) = _whole({"content": "hi"}, **logprobs)["output"]
    form = _form()
    told = form.events(_chunk({"content": "hi"}, **logprobs))
    events = _read(told + form.last_events(Terminal(200, usage=USAGE)))

    assert item["content"][0]["logprobs"] == [token]
    deltas = [event for event in events if event["type"] == "response.output_text.delta"]
    assert deltas[0]["logprobs"] == [token]
    assert events[-1]["response"]["output"][0]["content"][0]["logprobs"] == [token]


def test_no_answer_is_a_bad_gateway() -> None:
    """502."""
    refused = _form().body(Terminal(200, b'{"choices":[]}'))

    assert isinstance(refused, Refusal)
    assert refused.status == 502


def test_the_events_of_a_text_come_in_openais_order() -> None:
    """Begun, told in pieces, done from the inside out; then the whole."""
    events = _streamed({"role": "assistant"}, {"content": "hi "}, {"content": "there"})

    assert [event["type"] for event in events] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert events[0]["response"]["status"] == "in_progress"
    assert events[-1]["response"] == _whole({"content": "hi there"})


def test_the_sdk_adds_calls_and_texts_up_to_the_response() -> None:
    """Pieces of calls may come mixed, and text behind them is another message."""
    events = _streamed(
        {"content": "so"},
        {"tool_calls": [{"index": 0, "id": "c1", "function": {"name": "f", "arguments": "{"}}]},
        {"tool_calls": [{"index": 1, "id": "c2", "function": {"name": "g", "arguments": ""}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": "}"}}]},
        {"refusal": "no"},
        {"content": "but"},
        finish_reason="tool_calls",
    )
    added_up, whole = _added_up(events), events[-1]["response"]

    assert [item["type"] for item in whole["output"]] == [
        "message", "function_call", "function_call", "message"
    ]  # fmt: skip
    assert whole["output"][1]["arguments"] == "{}"
    parts = whole["output"][3]["content"]
    assert [part["type"] for part in parts] == ["refusal", "output_text"]
    assert [item["id"] for item in added_up["output"]] == [item["id"] for item in whole["output"]]
    done = [event for event in events if event["type"] == "response.output_item.done"]
    done.sort(key=lambda event: int(event["output_index"]))
    assert [event["item"] for event in done] == whole["output"]


def test_the_same_frames_are_the_same_events_however_they_arrive() -> None:
    """So that whoever comes back finds the same numbers."""
    chunks = [_chunk({"content": str(number)}) for number in range(9)]
    at_once, one_by_one = _form(), _form()
    end = Terminal(200, usage=USAGE)

    together = at_once.events(b"".join(chunks)) + at_once.last_events(end)
    assert together == b"".join(map(one_by_one.events, chunks)) + one_by_one.last_events(end)


def test_an_empty_stream_begins_before_it_ends() -> None:
    """With no item."""
    events = _read(_form().last_events(Terminal(200, usage=USAGE)))

    kinds = [event["type"] for event in events]
    assert kinds == ["response.created", "response.in_progress", "response.completed"]


def test_a_stream_that_fails_tells_what_there_is_and_the_error() -> None:
    """The response has failed, its item is incomplete; then what the SDK raises."""
    form = _form()
    refusal = Refusal(ErrorCode.UPSTREAM_INTERRUPTED, "broken off")
    told = form.events(_chunk({"content": "hi"})) + form.failed_events(refusal, ID)
    *_, failed, error = _read(told)

    assert failed["type"] == "response.failed"
    response = failed["response"]
    assert response["status"] == "failed"
    assert (response["error"]["code"], response["error"]["message"]) == (
        "server_error",
        "broken off",
    )
    assert response["output"][0]["status"] == "incomplete"
    assert response["output"][0]["content"][0]["text"] == "hi"
    assert (error["type"], error["code"]) == ("error", "upstream_interrupted")
    assert error["error"]["code"] == "upstream_interrupted"


def test_an_answer_that_is_too_long_to_be_told_again_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """At once, with all that came; nothing follows."""
    monkeypatch.setattr(answers, "ANSWER_BYTES_MAX", 1_000)
    form = _form()
    told = form.events(_chunk({"content": "x" * 700}) + _chunk({"content": "y" * 100}))
    *_, failed, error = _read(told)

    assert (failed["type"], error["code"]) == ("response.failed", "upstream_error")
    assert failed["response"]["output"][0]["content"][0]["text"] == "x" * 700 + "y" * 100
    assert form.events(_chunk({"content": "z"})) == b""
    assert form.last_events(Terminal(200, usage=USAGE)) == b""
    assert form.failed_events(Refusal(ErrorCode.UPSTREAM_ERROR, "x"), ID) == b""


@pytest.mark.parametrize(
    "delta",
    [
        {"tool_calls": [None, "x", {"index": "0"}, {"function": None}, {"id": 7}]},
        {"tool_calls": [{"index": 0, "function": {"name": 5, "arguments": 5}}]},
        {"content": [{"type": "text", "text": "hi"}, None]},
        {"content": 5, "refusal": 5},
        {"content": "\ud800"},
    ],
)
def test_odd_pieces_break_nothing(delta: Any) -> None:
    """What is no text is left out; events and whole agree."""
    events = _streamed(delta)
    assert events[-1]["type"] == "response.completed"
    _added_up(events)


async def test_a_stream_is_answered_as_events_without_an_end_mark() -> None:
    """Over the whole of ingress; the cost is a comment of the last event."""
    gateway = Gateway()
    gateway.log.worker = lambda _: (
        Started("b1", ()),
        Chunk(_chunk({"content": "hi"}, "stop")),
        Terminal(200, usage=USAGE),
    )
    body = {"model": "echo", "input": "hi", "stream": True}
    answer = await gateway.client.post("/v1/responses", json=body)

    assert answer.headers["content-type"].startswith("text/event-stream")
    *_, last, rest = answer.text.split("\n\n")
    assert last.startswith(": x-tallygate-cost-usd 0.000000040\nevent: response.completed\n")
    assert rest == ""
    assert "[DONE]" not in answer.text


async def test_a_refusal_before_the_headers_is_an_openai_error() -> None:
    """With its status, also of a stream."""
    gateway = Gateway()
    gateway.log.worker = lambda _: (
        Terminal(502, error_code="upstream_error", error_message="bad"),
    )
    body = {"model": "echo", "input": "hi", "stream": True}
    answer = await gateway.client.post("/v1/responses", json=body)

    assert answer.status_code == 502
    assert answer.json()["error"]["code"] == "upstream_error"
