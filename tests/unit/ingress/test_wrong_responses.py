"""Response requests of OpenAI's API that are refused: by the name of what is wrong, at whatever depth."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any, Final

import pytest

from ingress.apis.openai.responses.create import parse
from ingress.apis.openai.responses.response_fields import FIELDS
from ingress.apis.parsed_request import Fields, ParsedRequest
from ingress.auth.caller import Caller
from ingress.http.refusals import Refusal
from tests.support.configuration import snapshot

CALLER: Final = Caller("k", "acme", None, None, None)
FUNCTION: Final = {"type": "function", "name": "f", "parameters": {"type": "object"}}
PNG: Final = "data:image/png;base64,AA=="


def _parsed(**fields: Any) -> ParsedRequest | Refusal:
    return parse({"model": "echo", "input": "hi", **fields}, snapshot(), CALLER)


MESSAGE: Final = {"role": "user", "content": "x"}
WRONG: Final[list[tuple[dict[str, Any], str]]] = [
    ({"input": None}, "input"),
    ({"input": []}, "input"),
    ({"input": [MESSAGE] * 2_049}, "input"),
    ({"input": ["x"]}, "input[0]"),
    ({"input": [{"role": "tool", "content": "x"}]}, "input[0].role"),
    ({"input": [MESSAGE, {"type": "item_reference", "id": "x"}]}, "input[1].type"),
    ({"input": [{"type": ["x"]}]}, "input[0].type"),
    ({"input": [{"content": "x"}]}, "input[0].type"),
    ({"input": [{"role": "user", "content": None}]}, "input[0].content"),
    ({"input": [{"role": "user", "content": ["x"]}]}, "input[0].content[0]"),
    ({"input": [{"role": "user", "content": [{"type": "x"}]}]}, "input[0].content[0].type"),
    ({"input": [{"role": "assistant", "content": [{"type": "input_image"}]}]}, "input[0].content[0].type"),
    ({"input": [{"role": "user", "content": [{"type": "input_text"}]}]}, "input[0].content[0].text"),
    ({"input": [{"role": "user", "content": [{"type": "input_image", "file_id": "f"}]}]}, "input[0].content[0].file_id"),
    ({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, "input[0].content[0].image_url"),
    ({"input": [{"role": "user", "content": [{"type": "input_image", "image_url": PNG}]}]}, "input[0]"),
    ({"input": [{"role": "user", "content": [{"type": "input_file", "file_url": "u"}]}]}, "input[0].content[0].file_url"),
    ({"input": [{"role": "user", "content": [{"type": "input_file"}]}]}, "input[0].content[0].file_data"),
    ({"input": [{"role": "user", "content": [{"type": "input_audio"}]}]}, "input[0].content[0].input_audio"),
    ({"input": [{"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}]}, "input[0].content[0].input_audio.data"),
    ({"input": [{"type": "function_call", "name": "f", "arguments": "{}"}]}, "input[0].call_id"),
    ({"input": [{"type": "function_call", "call_id": "c", "name": "", "arguments": "{}"}]}, "input[0].name"),
    ({"input": [{"type": "function_call", "call_id": "c", "name": "f", "arguments": {}}]}, "input[0].arguments"),
    ({"input": [{"type": "function_call_output", "output": "x"}]}, "input[0].call_id"),
    ({"input": [{"type": "function_call_output", "call_id": "c"}]}, "input[0].output"),
    ({"model": ""}, "model"),
    ({"instructions": ["x"]}, "instructions"),
    ({"max_output_tokens": 0}, "max_output_tokens"),
    ({"top_logprobs": 21}, "top_logprobs"),
    ({"temperature": True}, "temperature"),
    ({"stream": "yes"}, "stream"),
    ({"store": 1}, "store"),
    ({"background": 1}, "background"),
    ({"background": True, "store": False}, "store"),
    ({"stream_options": []}, "stream_options"),
    ({"truncation": "auto"}, "truncation"),
    ({"include": "x"}, "include"),
    ({"include": ["x"]}, "include[0]"),
    ({"metadata": {"a": 1}}, "metadata"),
    ({"metadata": {"a" * 65: "b"}}, "metadata"),
    ({"metadata": dict.fromkeys("abcdefghijklmnopq", "x")}, "metadata"),
    ({"text": "x"}, "text"),
    ({"text": {"verbosity": 1}}, "text.verbosity"),
    ({"text": {"format": "x"}}, "text.format"),
    ({"text": {"format": {"type": "grammar"}}}, "text.format.type"),
    ({"text": {"format": {"type": "json_schema", "schema": {}}}}, "text.format.name"),
    ({"text": {"format": {"type": "json_schema", "name": "n"}}}, "text.format.schema"),
    ({"text": {"format": {"type": "json_schema", "name": "n", "schema": {}, "strict": 1}}}, "text.format.strict"),
    ({"reasoning": "low"}, "reasoning"),
    ({"reasoning": {"effort": 1}}, "reasoning.effort"),
    ({"tools": {}}, "tools"),
    ({"tools": ["x"]}, "tools[0]"),
    ({"tools": [FUNCTION, {"type": "web_search"}]}, "tools[1].type"),
    ({"tools": [{"type": "custom", "name": "x"}]}, "tools[0].type"),
    ({"tools": [{"type": "function"}]}, "tools[0].name"),
    ({"tools": [{"type": "function", "name": "f", "parameters": []}]}, "tools[0].parameters"),
    ({"tools": [{"type": "function", "name": "f", "description": 1}]}, "tools[0].description"),
    ({"tool_choice": "any"}, "tool_choice"),
    ({"tool_choice": {"type": "mcp"}}, "tool_choice"),
    ({"tool_choice": {"type": "function"}}, "tool_choice.name"),
    ({"conversation": "conv_1"}, "conversation"),
    ({"previous_response_id": "resp_1"}, "previous_response_id"),
    ({"previous_response_id": 1}, "previous_response_id"),
    ({"prompt": {"id": "pmpt_1"}}, "prompt"),
    ({"messages": []}, "messages"),
    ({"n": 2}, "n"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "param"), WRONG, ids=[str(row[1]) for row in WRONG])
def test_what_is_wrong_is_refused_by_its_name(change: dict[str, Any], param: str) -> None:
    """400, whatever depth it stands at."""
    refused = _parsed(**change)

    assert isinstance(refused, Refusal)
    assert (refused.status, refused.param) == (400, param)
    assert refused.message.startswith(param)


def test_a_hosted_tool_is_named() -> None:
    """So that its client knows which one it is."""
    refused = _parsed(tools=[{"type": "web_search"}])

    assert isinstance(refused, Refusal)
    assert "web_search" in refused.message


@pytest.mark.parametrize("name", sorted(FIELDS))
def test_null_is_as_good_as_absent(name: str) -> None:
    """As SDKs send what was not given."""
    if name not in ("model", "input"):
        assert _parsed(**{name: None}) == _parsed()


RICH: Final[Fields] = {
    "model": "capped",
    "instructions": "a",
    "input": [
        {"role": "user", "content": [{"type": "input_text", "text": "a"}, {"type": "input_image", "image_url": PNG}]},
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c", "output": [{"type": "input_text", "text": "x"}]},
        {"type": "reasoning", "id": "r", "summary": []},
        {"role": "assistant", "content": [{"type": "output_text", "text": "a"}]},
    ],
    "tools": [FUNCTION],
    "tool_choice": {"type": "function", "name": "f"},
    "text": {"format": {"type": "json_schema", "name": "n", "schema": {}}},
    "reasoning": {"effort": "low"},
    "metadata": {"a": "b"},
    "include": ["message.output_text.logprobs"],
}  # fmt: skip
ODD: Final[tuple[Any, ...]] = (None, True, 0, -1.5, "", "x", [], [[]], {}, {"type": "x"}, [None])


def _places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    pairs = value.items() if isinstance(value, dict) else ()
    for key, inner in enumerate(value) if isinstance(value, list) else pairs:
        yield from _places(inner, (*path, key))


@pytest.mark.parametrize("path", list(_places(RICH))[1:], ids=str)
def test_odd_values_anywhere_are_understood_or_refused(path: tuple[Any, ...]) -> None:
    """Whatever stands there: nothing raises."""
    for odd in ODD:
        body = copy.deepcopy(RICH)
        *way, last = path
        inner: Any = body
        for step in way:
            inner = inner[step]
        inner[last] = odd
        assert isinstance(parse(body, snapshot(), CALLER), ParsedRequest | Refusal)
