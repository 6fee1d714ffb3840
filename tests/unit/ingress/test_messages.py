"""Message requests of Anthropic's API: which chat completion each stands for, and what is refused."""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Iterator
from typing import Any, Final

import msgspec
import pytest
from anthropic.types.beta.message_create_params import MessageCreateParamsBase as BetaParams
from anthropic.types.message_create_params import MessageCreateParamsBase

from ingress.apis.anthropic.message_fields import FIELDS
from ingress.apis.anthropic.messages import parse
from ingress.apis.openai.chat import parse as parse_chat
from ingress.apis.parsed_request import Fields, ParsedRequest
from ingress.auth.caller import Caller
from ingress.http.refusals import Refusal
from tests.support.configuration import snapshot

CALLER: Final = Caller("k", "acme", None, None, None)
LEAST: Final[Fields] = {
    "model": "echo",
    "max_tokens": 9,
    "messages": [{"role": "user", "content": "hi"}],
}
PNG: Final = {
    "type": "image",
    "source": {"type": "base64", "media_type": "image/png", "data": "AA=="},
}


def _parsed(**fields: Any) -> ParsedRequest | Refusal:
    return parse({**LEAST, **fields}, snapshot(), CALLER)


def _asked(**fields: Any) -> dict[str, Any]:
    """The body that a backend is asked with."""
    parsed = _parsed(**fields)
    assert isinstance(parsed, ParsedRequest), parsed
    body: dict[str, Any] = json.loads(parsed.call.payload)
    return body


def test_the_least_is_a_chat_completion_with_the_same_bounds() -> None:
    """Bounds are those of what a backend is asked."""
    chat = parse_chat(dict(LEAST), snapshot(), CALLER)

    assert _parsed() == chat


def test_a_tool_loop_is_told_as_functions_and_messages_of_tools() -> None:
    """Calls with their arguments as a text; results before what the user says beside them."""
    turns = [
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "hm", "signature": "s"},
                {"type": "text", "text": "let me see"},
                {"type": "tool_use", "id": "t1", "name": "look", "input": {"at": "é"}},
                {"type": "tool_use", "id": "t2", "name": "look", "input": {}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "t1", "content": "one"},
                {"type": "tool_result", "tool_use_id": "t2", "content": [{"type": "text", "text": "two"}]},
                {"type": "text", "text": "and now?"},
            ],
        },
    ]  # fmt: skip
    system = [{"type": "text", "text": "be brief", "cache_control": {"type": "ephemeral"}}]

    asked = _asked(system=system, messages=turns)

    assert asked["messages"] == [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "a\n\nb"},
        {
            "role": "assistant",
            "content": "let me see",
            "tool_calls": [
                {"id": "t1", "type": "function", "function": {"name": "look", "arguments": '{"at":"é"}'}},
                {"id": "t2", "type": "function", "function": {"name": "look", "arguments": "{}"}},
            ],
        },
        {"role": "tool", "tool_call_id": "t1", "content": "one"},
        {"role": "tool", "tool_call_id": "t2", "content": "two"},
        {"role": "user", "content": "and now?"},
    ]  # fmt: skip
    assert b"cache_control" not in json.dumps(asked).encode()


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"stop_sequences": ["x"]}, {"stop": ["x"]}),
        ({"tool_choice": {"type": "any"}}, {"tool_choice": "required"}),
        ({"tool_choice": {"type": "none"}}, {"tool_choice": "none"}),
        (
            {"tool_choice": {"type": "auto", "disable_parallel_tool_use": True}},
            {"tool_choice": "auto", "parallel_tool_calls": False},
        ),
        (
            {"tool_choice": {"type": "tool", "name": "look"}},
            {"tool_choice": {"type": "function", "function": {"name": "look"}}},
        ),
        (
            {"tools": [{"name": "look", "description": "d", "input_schema": {"type": "object"}}]},
            {
                "tools": [
                    {
                        "type": "function",
                        "function": {
                            "name": "look",
                            "description": "d",
                            "parameters": {"type": "object"},
                        },
                    }
                ]
            },
        ),
        (
            {"output_config": {"format": {"type": "json_schema", "schema": {}}, "effort": "low"}},
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "output", "schema": {}, "strict": True},
                }
            },
        ),
        (
            {"temperature": 0.5, "top_k": 3, "top_p": 1},
            {"temperature": 0.5, "top_k": 3, "top_p": 1},
        ),
        ({name: None for name, row in FIELDS.items() if row.fate == "refused"}, {}),
        (
            {
                "thinking": {"type": "enabled", "budget_tokens": 2_000},
                "metadata": {"user_id": "u"},
                "cache_control": {"type": "ephemeral"},
                "service_tier": "auto",
            },
            {},
        ),
    ],
)
def test_each_field_has_its_place(fields: dict[str, Any], told: dict[str, Any]) -> None:
    """Or is left out, as the table says."""
    assert _asked(**fields) == {**_asked(), **told}


def test_pictures_and_documents_are_parts() -> None:
    """Those in a tool's result stand behind it; each counts as its model states, and not as its bytes."""
    pdf = {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="}
    web = {"type": "image", "source": {"type": "url", "url": "https://x.example/a.png"}}
    text = {
        "type": "document",
        "title": "T",
        "source": {"type": "text", "data": "body", "media_type": "text/plain"},
    }
    found = {
        "type": "search_result",
        "title": "T",
        "source": "S",
        "content": [{"type": "text", "text": "C"}],
    }
    said = [PNG, web, {"type": "document", "source": pdf}, text, found]
    result = {
        "type": "tool_result",
        "tool_use_id": "t",
        "content": [{"type": "text", "text": "r"}, PNG],
    }
    model = {"image_tokens": 100, "file_tokens": 1_000}
    config = snapshot()
    bounded = msgspec.structs.replace(config.models["echo"], **model)
    config = dataclasses.replace(config, models={"echo": bounded})
    fields = {**LEAST, "messages": [{"role": "user", "content": [result, *said]}]}

    parsed = parse(fields, config, CALLER)

    assert isinstance(parsed, ParsedRequest)
    tool, user = json.loads(parsed.call.payload)["messages"]
    assert tool == {"role": "tool", "tool_call_id": "t", "content": "r"}
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
    assert user["content"] == [
        picture,
        picture,
        {"type": "image_url", "image_url": {"url": "https://x.example/a.png"}},
        {"type": "file", "file": {"filename": "document.pdf", "file_data": "data:application/pdf;base64,JVBERi0="}},
        {"type": "text", "text": "T"},
        {"type": "text", "text": "body"},
        {"type": "text", "text": "T\nS\nC"},
    ]  # fmt: skip
    assert 1_300 < parsed.call.input_tokens_bound < 1_300 + len(parsed.call.payload) + 100


def test_media_that_the_model_does_not_bound_are_refused_by_the_clients_name() -> None:
    """The system prompt in front of it is no message of the client's."""
    refusal = _parsed(
        system="s", messages=[LEAST["messages"][0], {"role": "user", "content": [PNG]}]
    )

    assert isinstance(refusal, Refusal)
    assert (refusal.status, refusal.param) == (400, "messages[1]")
    assert refusal.message.startswith("messages[1] ")


def _block(**block: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": [block]}]}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"max_tokens": None}, "max_tokens"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": True}, "max_tokens"),
        ({"top_k": 1.5}, "top_k"),
        ({"temperature": True}, "temperature"),
        ({"stream": "yes"}, "stream"),
        ({"n": 2}, "n"),
        ({"mcp_servers": []}, "mcp_servers"),
        ({"container": "c"}, "container"),
        ({"thread": {"type": "create"}}, "thread"),
        ({"system": 7}, "system"),
        ({"system": [PNG]}, "system[0].type"),
        ({"stop_sequences": [""]}, "stop_sequences[0]"),
        ({"messages": []}, "messages"),
        ({"messages": ["x"]}, "messages[0]"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": ["user"], "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        (_block(type="text"), "messages[0].content[0].text"),
        (_block(type=["text"]), "messages[0].content[0].type"),
        (_block(type="tool_use", id="t", name="n", input={}), "messages[0].content[0].type"),
        (_block(type="server_tool_use"), "messages[0].content[0].type"),
        (_block(type="image", source={"type": "file"}), "messages[0].content[0].source.type"),
        (_block(type="tool_result"), "messages[0].content[0].tool_use_id"),
        (_block(type="document", source=7), "messages[0].content[0].source"),
        ({"tools": {}}, "tools"),
        ({"tools": [{"type": "web_search_20250305", "name": "w"}]}, "tools[0].type"),
        ({"tools": [{"name": "w"}]}, "tools[0].input_schema"),
        ({"tool_choice": "auto"}, "tool_choice"),
        ({"tool_choice": {"type": "tool"}}, "tool_choice.name"),
        ({"output_config": {"format": {"type": "text"}}}, "output_config.format.type"),
    ],
)  # fmt: skip
def test_a_wrong_field_is_named(fields: dict[str, Any], param: str) -> None:
    """400, whose message begins with it."""
    refusal = _parsed(**fields)

    assert isinstance(refusal, Refusal)
    assert (refusal.status, refusal.param) == (400, param)
    assert refusal.message.startswith(param)


_EVERYTHING: Final[Fields] = {
    **LEAST,
    "system": [{"type": "text", "text": "s"}],
    "stop_sequences": ["x"],
    "temperature": 1,
    "stream": False,
    "tools": [{"name": "w", "description": "d", "strict": True, "input_schema": {"a": {"b": []}}}],
    "tool_choice": {"type": "tool", "name": "w", "disable_parallel_tool_use": True},
    "output_config": {"format": {"type": "json_schema", "schema": {}}},
    "thinking": {"type": "adaptive"},
    "messages": [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "t"},
                PNG,
                {"type": "document", "title": "T", "context": "c", "source": {"type": "text", "data": "b"}},
                {"type": "search_result", "title": "T", "source": "S", "content": [{"type": "text", "text": "C"}]},
            ],
        },
        {
            "role": "assistant",
            "content": [
                {"type": "redacted_thinking", "data": "x"},
                {"type": "tool_use", "id": "t", "name": "w", "input": {"x": [1]}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "t", "is_error": True, "content": [{"type": "text", "text": "r"}]}
            ],
        },
    ],
}  # fmt: skip


def _paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    inner = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    for name, each in inner:
        yield (*path, name)
        yield from _paths(each, (*path, name))


@pytest.mark.parametrize(
    "wrong",
    [None, 7, -1.5, True, "", "x", "é" * 9, [], ["x"], [None], {}, {"type": 1}, {"type": "text"}],
)
def test_wrong_types_at_any_depth_are_refused_or_pass_but_never_break(wrong: Any) -> None:
    """Each place of a body that has everything, one after the other."""
    for path in _paths(_EVERYTHING):
        fields = copy.deepcopy(_EVERYTHING)
        place: Any = fields
        for name in path[:-1]:
            place = place[name]
        place[path[-1]] = wrong

        parsed = parse(fields, snapshot(), CALLER)

        assert isinstance(parsed, ParsedRequest) or parsed.status in (400, 404)


def test_every_field_of_the_sdk_is_known() -> None:
    """By Anthropic's own types, of the version that is pinned here; `betas` are a header."""
    beta = set(BetaParams.__annotations__) - {"betas"}

    assert set(MessageCreateParamsBase.__annotations__) | beta | {"stream"} <= set(FIELDS)
