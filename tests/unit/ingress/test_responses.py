"""Response requests of OpenAI's API: which chat completion each stands for, and what is refused."""

from __future__ import annotations

import json
from typing import Any, Final

from openai.types.responses.response_create_params import ResponseCreateParamsBase

from ingress.apis.openai.chat import parse as parse_chat
from ingress.apis.openai.responses.create import parse
from ingress.apis.openai.responses.response_fields import FIELDS, SAMPLED
from ingress.apis.openai.responses.shown import SHOWN_BYTES_MAX, read_shown
from ingress.apis.parsed_request import Fields, ParsedRequest
from ingress.auth.caller import Caller
from ingress.http.refusals import Refusal
from tests.support.configuration import snapshot

CALLER: Final = Caller("k", "acme", None, None, None)
LEAST: Final[Fields] = {"model": "echo", "input": "hi"}
FUNCTION: Final = {
    "type": "function",
    "name": "f",
    "description": "d",
    "parameters": {"type": "object"},
    "strict": True,
}
PNG: Final = "data:image/png;base64,AA=="


def _parsed(**fields: Any) -> ParsedRequest | Refusal:
    return parse({**LEAST, **fields}, snapshot(), CALLER)


def _request(**fields: Any) -> ParsedRequest:
    parsed = _parsed(**fields)
    assert isinstance(parsed, ParsedRequest), parsed
    return parsed


def _asked(**fields: Any) -> dict[str, Any]:
    """The body that a backend is asked with."""
    body: dict[str, Any] = json.loads(_request(**fields).call.payload)
    return body


def _shown(**fields: Any) -> dict[str, Any]:
    """What a response repeats of it."""
    members: dict[str, Any] = json.loads(bytes(read_shown(_request(**fields).shown or b"").members))
    return members


def _messages(*items: Any, **fields: Any) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = _asked(input=list(items), **fields)["messages"]
    return messages


def test_the_least_is_a_chat_completion_with_the_same_bounds() -> None:
    """Bounds are those of what a backend is asked."""
    chat = {"model": "echo", "messages": [{"role": "user", "content": "hi"}]}
    same = parse_chat(chat, snapshot(), CALLER)

    assert isinstance(same, ParsedRequest)
    assert _request().call == same.call


def test_instructions_are_the_first_message() -> None:
    """Of role system, as a developer's words are: servers know no other."""
    messages = _messages(
        {"role": "developer", "content": "a"},
        {"role": "system", "content": [{"type": "input_text", "text": "b"}]},
        {"type": "message", "role": "user", "content": "c"},
        instructions="first",
    )

    assert messages == [
        {"role": "system", "content": "first"},
        {"role": "system", "content": "a"},
        {"role": "system", "content": "b"},
        {"role": "user", "content": "c"},
    ]


def test_a_tool_loop_is_told_as_functions_and_messages_of_tools() -> None:
    """Calls stand in the assistant's message, outputs right behind it; thoughts are left out."""
    output = [{"type": "output_text", "text": "let me see"}]
    messages = _messages(
        {"role": "user", "content": "go"},
        {"type": "reasoning", "id": "rs_1", "summary": []},
        {"type": "message", "role": "assistant", "content": output},
        {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"},
        {"type": "function_call", "call_id": "c2", "name": "g", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": "one"},
        {
            "type": "function_call_output",
            "call_id": "c2",
            "output": [{"type": "input_text", "text": "a"}, {"type": "input_text", "text": "b"}],
        },
        {"type": "function_call", "call_id": "c3", "name": "f", "arguments": "{}"},
        {"role": "assistant", "content": "and"},
        {"type": "function_call_output", "call_id": "c3", "output": "three"},
    )

    def call(call_id: str, name: str) -> dict[str, Any]:
        return {"id": call_id, "type": "function", "function": {"name": name, "arguments": "{}"}}

    assert messages == [
        {"role": "user", "content": "go"},
        {
            "role": "assistant",
            "content": "let me see",
            "tool_calls": [call("c1", "f"), call("c2", "g")],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "one"},
        {"role": "tool", "tool_call_id": "c2", "content": "a\n\nb"},
        {"role": "assistant", "content": "and", "tool_calls": [call("c3", "f")]},
        {"role": "tool", "tool_call_id": "c3", "content": "three"},
    ]


def test_pictures_of_outputs_stand_behind_all_outputs() -> None:
    """Nothing may stand between calls and what they gave."""
    picture = {"type": "input_image", "image_url": PNG, "detail": "low"}
    output = {"type": "function_call_output", "call_id": "c1", "output": [picture]}
    messages = _messages(
        {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"},
        {"type": "function_call", "call_id": "c2", "name": "f", "arguments": "{}"},
        output,
        {"type": "function_call_output", "call_id": "c2", "output": "x"},
        {"role": "user", "content": "and?"},
        model="capped",
    )

    roles = [message["role"] for message in messages]
    assert roles == ["assistant", "tool", "tool", "user", "user"]
    assert messages[4]["content"] == "and?"
    url = {"url": PNG, "detail": "low"}
    assert messages[3]["content"] == [{"type": "image_url", "image_url": url}]


def test_media_are_those_of_a_chat_completion() -> None:
    """Texts alone are one text; a mark of a cache stays where it stands."""
    marked = {"type": "input_text", "text": "b", "prompt_cache_breakpoint": {"mode": "explicit"}}
    texts = [{"type": "input_text", "text": "a"}, {"type": "input_text", "text": "b"}]
    parts = [
        {"type": "input_text", "text": "see"},
        {"type": "input_image", "image_url": PNG, "detail": None},
    ]
    (first,) = _messages({"role": "user", "content": texts})
    (second,) = _messages({"role": "user", "content": parts}, model="capped")
    (third,) = _messages({"role": "user", "content": [marked]})

    assert first["content"] == "a\n\nb"
    assert second["content"] == [
        {"type": "text", "text": "see"},
        {"type": "image_url", "image_url": {"url": PNG}},
    ]
    assert third["content"][0]["prompt_cache_breakpoint"] == {"mode": "explicit"}


def test_files_and_recordings_are_told_as_such() -> None:
    """A model that bounds none refuses them by the name of their item."""
    file = {"type": "input_file", "file_data": "data:application/pdf;base64,AA=="}
    recording = {"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}}
    for part in (file, recording):
        refused = _parsed(input=[{"role": "user", "content": [part]}])
        assert isinstance(refused, Refusal)
        assert refused.param == "input[0]"


def test_functions_and_their_choice_are_translated() -> None:
    """Flat here, nested there; without tools, what is said of them is not sent."""
    asked = _asked(
        tools=[FUNCTION],
        tool_choice={"type": "function", "name": "f"},
        parallel_tool_calls=False,
    )
    alone = _asked(tools=[], tool_choice="auto", parallel_tool_calls=True)

    function = {name: value for name, value in FUNCTION.items() if name != "type"}
    assert asked["tools"] == [{"type": "function", "function": function}]
    assert asked["tool_choice"] == {"type": "function", "function": {"name": "f"}}
    assert asked["parallel_tool_calls"] is False
    assert not {"tools", "tool_choice", "parallel_tool_calls"} & alone.keys()


def test_the_form_of_the_answer_is_translated() -> None:
    """A schema keeps what it says of itself; a text is what there is without any form."""
    schema = {"type": "json_schema", "name": "n", "schema": {"type": "object"}, "strict": True}
    asked = _asked(text={"format": schema, "verbosity": "low"})
    plain = _asked(text={"format": {"type": "text"}})

    told = {"name": "n", "schema": {"type": "object"}, "strict": True}
    assert asked["response_format"] == {"type": "json_schema", "json_schema": told}
    assert asked["verbosity"] == "low"
    assert "response_format" not in plain
    loose = _asked(text={"format": {"type": "json_object"}})
    assert loose["response_format"] == {"type": "json_object"}


def test_options_have_their_names_there() -> None:
    """Limit, effort and logprobs; what chooses among tokens goes as it is."""
    asked = _asked(
        max_output_tokens=7,
        reasoning={"effort": "low", "summary": "auto"},
        include=["message.output_text.logprobs", "reasoning.encrypted_content"],
        top_logprobs=2,
        temperature=0.5,
        seed=3,
        user="u",
    )

    assert (asked["max_tokens"], asked["reasoning_effort"]) == (7, "low")
    assert (asked["logprobs"], asked["top_logprobs"]) == (True, 2)
    assert (asked["temperature"], asked["seed"], asked["user"]) == (0.5, 3, "u")
    assert "top_logprobs" not in _asked(top_logprobs=2)
    assert "seed" in SAMPLED


def test_what_is_left_out_changes_nothing_that_is_asked() -> None:
    """Of the world's fields, each of those that the table says so of."""
    values: dict[str, Any] = {
        "metadata": {"a": "b"},
        "store": True,
        "truncation": "disabled",
        "stream_options": {"include_obfuscation": True},
        "max_tool_calls": 3,
        "context_management": [{"type": "compaction"}],
        "image": {"context_compression": "auto"},
    }

    assert values.keys() == {row.name for row in FIELDS.values() if row.fate == "left out"}
    for name, value in values.items():
        assert _asked(**{name: value}) == _asked()


def test_every_field_of_the_sdk_has_its_fate() -> None:
    """A field that OpenAI adds is seen here, when the package is a newer one."""
    params = ResponseCreateParamsBase.__annotations__.keys()

    assert {*params, "stream"} == FIELDS.keys() - SAMPLED


def test_a_response_repeats_its_request() -> None:
    """What was not said has OpenAI's default, or is null."""
    shown = _shown(tools=[{"type": "function", "name": "f"}], metadata={"a": "b"}, top_p=0.5)

    assert shown["tools"] == [{"type": "function", "name": "f", "parameters": None, "strict": None}]
    assert (shown["metadata"], shown["top_p"], shown["temperature"]) == ({"a": "b"}, 0.5, None)
    assert (shown["tool_choice"], shown["parallel_tool_calls"]) == ("auto", True)
    assert (shown["store"], shown["text"]) == (True, {"format": {"type": "text"}})
    assert _shown(store=False)["store"] is False


def test_what_is_repeated_is_bounded() -> None:
    """Long members are left out, short ones stay."""
    shown = _shown(instructions="x" * SHOWN_BYTES_MAX, tools=[FUNCTION], user="u" * 2_000)

    assert len(json.dumps(shown)) < 8_192
    assert (shown["instructions"], shown["user"]) == (None, None)
    assert [tool["name"] for tool in shown["tools"]] == ["f"]
