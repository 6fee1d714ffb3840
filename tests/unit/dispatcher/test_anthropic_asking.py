"""A chat completion as a backend that speaks Anthropic's protocol is asked for it."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dispatcher.operations.anthropic.asking import LEFT_OUT, REFUSED, encode, message_request
from dispatcher.operations.binding import Unaskable
from dispatcher.work import Choice
from ingress.apis.anthropic.messages import chat_of
from ingress.apis.anthropic.turns import turns_of
from ingress.apis.openai.request_fields import CHAT
from schemas.entities import Backend

_HI = [{"role": "user", "content": "hi"}]
_CALL = {
    "id": "call:1",
    "type": "function",
    "function": {"name": "add", "arguments": '{"a": 1}'},
}
_CACHED = {"type": "ephemeral"}
_THOUGHT = {"type": "thinking", "thinking": "hm", "signature": "sig"}


def _asked(messages: list[Any] | None = None, **fields: Any) -> dict[str, Any]:
    return message_request({"model": "m", "max_tokens": 9, "messages": messages or _HI, **fields})


def test_the_body_has_the_backends_name_of_the_model() -> None:
    """And nothing that only chat completions have."""
    body = {"model": "m", "messages": _HI, "max_tokens": 9, "stream": True, "stream_options": {}}
    choice = Choice("b", Backend(url="http://b"), "claude-x")

    asked = json.loads(encode(json.dumps(body).encode(), choice))

    assert asked == {"model": "claude-x", "messages": _HI, "max_tokens": 9, "stream": True}


def test_the_smaller_limit_counts_and_one_is_needed() -> None:
    """It stands in every request of the log, unless its model takes none."""
    assert _asked(max_completion_tokens=5)["max_tokens"] == 5
    assert _asked(max_completion_tokens=50)["max_tokens"] == 9
    with pytest.raises(Unaskable, match="output_limit_field"):
        message_request({"model": "m", "messages": _HI})


def test_instructions_become_the_system_prompt_wherever_they_stand() -> None:
    """As one text; as blocks where one is marked for a cache."""
    marked = {"type": "text", "text": "b", "cache_control": _CACHED}
    first, last = {"role": "system", "content": "a"}, {"role": "developer", "content": "c"}

    assert _asked([first, *_HI, last])["system"] == "a\nc"
    asked = _asked([first, {"role": "system", "content": [marked]}, *_HI])
    assert asked["system"] == [{"type": "text", "text": "a"}, marked]
    assert asked["messages"] == _HI
    assert "system" not in _asked()


def test_results_of_all_calls_stand_in_one_message() -> None:
    """With what the user says behind them; ids have the characters that Anthropic takes."""
    asked = _asked(
        [
            *_HI,
            {"role": "assistant", "content": None, "tool_calls": [_CALL, {**_CALL, "id": "2"}]},
            {"role": "tool", "tool_call_id": "call:1", "content": "one"},
            {"role": "tool", "tool_call_id": "2", "content": [{"type": "text", "text": "two"}]},
            {"role": "user", "content": "go on"},
        ]
    )["messages"]

    use = {"type": "tool_use", "id": "call_1", "name": "add", "input": {"a": 1}}
    assert asked[1] == {"role": "assistant", "content": [use, {**use, "id": "2"}]}
    assert asked[2]["role"] == "user"
    assert asked[2]["content"] == [
        {"type": "tool_result", "tool_use_id": "call_1", "content": "one"},
        {
            "type": "tool_result",
            "tool_use_id": "2",
            "content": [{"type": "text", "text": "two"}],
        },
        {"type": "text", "text": "go on"},
    ]
    assert len(asked) == 3


@pytest.mark.parametrize(
    ("arguments", "given_as"),
    [
        ("", {}),
        (None, {}),
        ("[1]", {"arguments": "[1]"}),
        ('{"cut', {"arguments": '{"cut'}),
        ({"a": 2}, {"a": 2}),
    ],
)
def test_arguments_are_an_object_whatever_they_were(arguments: Any, given_as: Any) -> None:
    """What is no object stands in one."""
    call = {"id": "1", "function": {"name": "f", "arguments": arguments}}
    asked = _asked([*_HI, {"role": "assistant", "tool_calls": [call]}])

    assert asked["messages"][1]["content"][0]["input"] == given_as


def test_thoughts_come_back_in_front_with_their_signature() -> None:
    """As an answer told them, or as parts of the content."""
    told = {"role": "assistant", "content": "so", "thinking_blocks": [_THOUGHT]}
    parts = {"role": "assistant", "content": [_THOUGHT, {"type": "text", "text": "so"}]}

    for message in (told, parts):
        said = _asked([*_HI, message])["messages"][1]["content"]
        assert said == [_THOUGHT, {"type": "text", "text": "so"}]


def test_what_says_nothing_is_left_out() -> None:
    """Anthropic refuses texts of nothing."""
    empty = {"role": "assistant", "content": ""}
    asked = _asked([*_HI, empty, {"role": "user", "content": [{"type": "text", "text": ""}, {"type": "text", "text": "x"}]}])  # fmt: skip

    assert asked["messages"] == [
        {"role": "user", "content": [{"type": "text", "text": each} for each in ("hi", "x")]}
    ]


def test_pictures_and_files_are_sources() -> None:
    """Base64 with its kind, or an address; marks for a cache stay."""
    parts = [
        {"type": "image_url", "image_url": {"url": "data:image/PNG;base64,AAAA"}},
        {"type": "image_url", "image_url": "https://x/y.png", "cache_control": _CACHED},
        {"type": "file", "file": {"file_data": "data:application/pdf;base64,JVBE", "filename": "a.pdf"}},
        {"type": "document", "source": {"type": "text", "data": "its own"}},
    ]  # fmt: skip
    content = _asked([{"role": "user", "content": parts}])["messages"][0]["content"]

    assert content == [
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}},
        {"type": "image", "source": {"type": "url", "url": "https://x/y.png"}, "cache_control": _CACHED},
        {
            "type": "document",
            "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBE"},
            "title": "a.pdf",
        },
        parts[3],
    ]  # fmt: skip


def test_tools_and_the_choice_among_them_are_translated() -> None:
    """A function without parameters takes none; tools of Anthropic's own go as they came."""
    function = {"name": "f", "description": "d", "parameters": {"type": "object"}, "strict": True}
    own = {"type": "bash_20250124", "name": "bash"}
    tools = [
        {"type": "function", "function": function, "cache_control": _CACHED},
        {"type": "function", "function": {"name": "g"}},
        own,
    ]
    asked = _asked(tools=tools, tool_choice="required", parallel_tool_calls=False)

    assert asked["tools"] == [
        {"name": "f", "input_schema": {"type": "object"}, "description": "d", "strict": True, "cache_control": _CACHED},
        {"name": "g", "input_schema": {"type": "object", "properties": {}}},
        own,
    ]  # fmt: skip
    assert asked["tool_choice"] == {"type": "any", "disable_parallel_tool_use": True}


@pytest.mark.parametrize(
    ("fields", "choice"),
    [
        ({"tool_choice": "none", "parallel_tool_calls": False}, {"type": "none"}),
        ({"tool_choice": {"type": "function", "function": {"name": "f"}}}, {"type": "tool", "name": "f"}),
        ({"parallel_tool_calls": False}, {"type": "auto", "disable_parallel_tool_use": True}),
        ({"tool_choice": {"type": "any"}}, {"type": "any"}),
        ({"parallel_tool_calls": True}, None),
    ],
)  # fmt: skip
def test_a_choice_is_what_it_was(fields: dict[str, Any], choice: Any) -> None:
    """Where there are tools; without any there is nothing to choose."""
    tools = [{"type": "function", "function": {"name": "f"}}]

    assert _asked(tools=tools, **fields).get("tool_choice") == choice
    assert "tool_choice" not in _asked(**fields)


@pytest.mark.parametrize(
    ("fields", "more"),
    [
        ({"temperature": 1.7}, {"temperature": 1}),
        ({"temperature": 0.2, "top_p": 0.5}, {"temperature": 0.2, "top_p": 0.5}),
        ({"stop": "x"}, {"stop_sequences": ["x"]}),
        ({"stop": ["x", " \n"]}, {"stop_sequences": ["x"]}),
        ({"reasoning_effort": "minimal"}, {"output_config": {"effort": "low"}}),
        ({"reasoning_effort": "none"}, {}),
        ({"user": "u", "metadata": {"a": "b"}}, {"metadata": {"user_id": "u"}}),
        ({"metadata": {"user_id": "v"}}, {"metadata": {"user_id": "v"}}),
        ({"service_tier": "default"}, {"service_tier": "standard_only"}),
        ({"service_tier": "flex"}, {}),
        ({"response_format": {"type": "text"}, "seed": 1, "n": 1, "logprobs": False}, {}),
        ({"thinking": {"type": "enabled", "budget_tokens": 5}}, {"thinking": {"type": "enabled", "budget_tokens": 5}}),
        ({"top_k": 3, "unknown": [1]}, {"top_k": 3, "unknown": [1]}),
    ],
    ids=str,
)  # fmt: skip
def test_fields_are_translated_left_out_or_go_as_they_came(
    fields: dict[str, Any], more: dict[str, Any]
) -> None:
    """What nobody here knows Anthropic refuses by its name."""
    assert _asked(**fields) == _asked() | more


def test_a_schema_of_the_answer_stands_beside_the_effort() -> None:
    """Both are of its output_config."""
    form = {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}}
    asked = _asked(response_format=form, reasoning_effort="high")

    schema = {"type": "json_schema", "schema": {"type": "object"}}
    assert asked["output_config"] == {"format": schema, "effort": "high"}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"n": 2}, "n"),
        ({"logprobs": True}, "logprobs"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"functions": [{"name": "f"}]}, "functions"),
        ({"web_search_options": {}}, "web_search_options"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"tools": [{"type": "custom", "custom": {"name": "f"}}]}, "tools[0]"),
        ({"tool_choice": "odd", "tools": [{"type": "function", "function": {}}]}, "tool_choice"),
        ({"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]}, "messages[0].content[0]"),
        ({"messages": [{"role": "user", "content": [{"type": "file", "file": {"file_id": "f"}}]}]}, "messages[0].content[0]"),
        ({"messages": [{"role": "odd", "content": "x"}]}, "messages[0].role"),
    ],
    ids=str,
)  # fmt: skip
def test_what_an_answer_would_miss_is_refused_by_its_name(
    fields: dict[str, Any], param: str
) -> None:
    """Before anything is called."""
    with pytest.raises(Unaskable) as caught:
        _asked(**fields)

    assert caught.value.param == param


def test_every_field_that_is_left_out_is_one_of_a_chat_completion() -> None:
    """And each that may be refused has a value that asks for nothing, with which it is left out."""
    assert LEFT_OUT - {"function_call"} - {"audio"} < CHAT.keys()
    assert REFUSED.keys() <= LEFT_OUT
    assert (
        _asked(**{name: value for name, value in REFUSED.items() if value is not None}) == _asked()
    )


def test_a_message_request_comes_back_from_its_chat_completion() -> None:
    """As where a model has backends of both protocols: texts, calls, results, pictures and the rest are the same."""
    asked = {
        "model": "m",
        "max_tokens": 9,
        "system": "be brief",
        "stop_sequences": ["x"],
        "temperature": 0.5,
        "tools": [{"name": "add", "description": "d", "input_schema": {"type": "object"}}],
        "tool_choice": {"type": "any", "disable_parallel_tool_use": True},
        "output_config": {"format": {"type": "json_schema", "schema": {"type": "object"}}},
        "messages": [
            {"role": "user", "content": [
                {"type": "text", "text": "what is it?"},
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AA"}},
            ]},
            {"role": "assistant", "content": [
                {"type": "text", "text": "see"},
                {"type": "tool_use", "id": "t1", "name": "add", "input": {"a": 1}},
            ]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "t1", "content": "2"},
                {"type": "text", "text": "so?"},
            ]},
        ],
    }  # fmt: skip
    chat = chat_of(asked, list(turns_of(asked)))

    assert message_request(json.loads(json.dumps(chat))) == asked


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda some: (
        st.lists(some, max_size=3)
        | st.dictionaries(st.sampled_from(["type", "text", "function", "url"]), some, max_size=3)
    ),
    max_leaves=5,
)
_MESSAGES = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["user", "assistant", "tool", "system", "x"])},
        optional={
            "content": st.none()
            | st.text(max_size=3)
            | st.lists(
                st.fixed_dictionaries(
                    {"type": st.sampled_from(["text", "image_url", "file", "refusal", "y"])},
                    optional={"text": _JSON, "image_url": _JSON, "file": _JSON},
                ),
                max_size=3,
            ),
            "tool_calls": _JSON,
            "thinking_blocks": _JSON,
            "tool_call_id": _JSON,
        },
    ),
    max_size=4,
)
_ODD_FIELDS = st.dictionaries(
    st.sampled_from(sorted(CHAT.keys() - {"messages", "model", "max_tokens", "tools", "max_completion_tokens"})), _JSON, max_size=4
)  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(_MESSAGES, _ODD_FIELDS, st.lists(_JSON, max_size=2))
def test_whatever_ingress_lets_in_is_asked_or_refused(
    messages: list[Any], fields: dict[str, Any], tools: list[Any]
) -> None:
    """It never fails otherwise."""
    body = {"model": "m", "max_tokens": 9, "messages": messages, "tools": tools, **fields}
    with suppress(Unaskable):
        assert json.dumps(message_request(body))
