"""What a model was told and said is found wherever backends put it (faults.md C8)."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.operations.completion import heard
from dispatcher.operations.spoken import spoken, told
from dispatcher.upstream.tally import Tally

ARGUMENTS = '{"query": "the quick brown fox"}'
CALL = {"index": 0, "id": "t1", "type": "function", "function": {"name": "search", "arguments": ARGUMENTS}}  # fmt: skip
SAID: dict[str, tuple[Any, list[str]]] = {
    "text": ({"role": "assistant", "content": "42"}, ["42"]),
    "nothing": ({"role": "assistant", "content": None, "tool_calls": None}, []),
    "an empty delta": ({}, []),
    "a refusal": ({"content": None, "refusal": "I must not."}, ["I must not."]),
    "a tool call": ({"content": None, "tool_calls": [CALL]}, ["search", ARGUMENTS]),
    "a further piece of one": ({"tool_calls": [{"index": 0, "function": {"arguments": '"fo'}}]}, ['"fo']),
    "arguments as an object (Ollama)": (
        {"tool_calls": [{"function": {"name": "f", "arguments": {"a": 1}}}]}, ["f", '{"a":1}']),
    "a call of a custom tool": (
        {"tool_calls": [{"type": "custom", "custom": {"name": "sql", "input": "select 1"}}]},
        ["sql", "select 1"]),
    "a function call as of old": (
        {"function_call": {"name": "f", "arguments": "{}"}}, ["f", "{}"]),
    "reasoning_content (DeepSeek)": ({"reasoning_content": "hm"}, ["hm"]),
    "reasoning (vLLM, Groq)": ({"reasoning": "hm", "content": "42"}, ["42", "hm"]),
    "thinking (Ollama)": ({"thinking": "hm"}, ["hm"]),
    "one thought under three names": (
        {"reasoning_content": "hm", "reasoning": "hm", "reasoning_details": [{"text": "hm"}]}, ["hm"]),
    "details alone (OpenRouter)": (
        {"reasoning": None, "reasoning_details": [{"type": "reasoning.text", "text": "hm"},
                                                  {"type": "reasoning.summary", "summary": "so"}]},
        ["hm", "so"]),
    "parts in a part (Mistral)": (
        {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]},
                     {"type": "text", "text": "42"}]},
        ["hm", "42"]),
    "parts (Anthropic)": (
        {"content": [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "42"}]},
        ["hm", "42"]),
    "spoken words": ({"audio": {"id": "a", "data": "AAAA", "transcript": "hello"}}, ["hello"]),
    "a picture": ({"content": [{"type": "image_url", "image_url": {"url": "data:x"}}]}, []),
    "a text alone": ("42", ["42"]),
}  # fmt: skip


@pytest.mark.parametrize(("said", "texts"), SAID.values(), ids=SAID)
def test_all_that_was_said_is_found_once(said: Any, texts: list[str]) -> None:
    """Whatever field or form it stands in."""
    assert list(spoken(said)) == texts


@pytest.mark.parametrize(("said", "texts"), SAID.values(), ids=SAID)
def test_the_short_way_for_a_usual_message_notes_what_the_long_one_finds(
    said: Any, texts: list[str]
) -> None:
    """Also of a message whose other fields are there and empty, or are not."""
    empty = dict.fromkeys(("refusal", "tool_calls", "audio", "reasoning"))
    for each in (said, {**empty, **said} if isinstance(said, dict) else said):
        noted = Tally()
        heard(each, noted)
        assert noted.take() == "".join(texts)


def test_a_model_reads_messages_tools_and_the_form_of_its_answer() -> None:
    """Also what tools answered, and what it called before."""
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
    schema = {"type": "json_schema", "json_schema": {"name": "s", "schema": {}}}
    messages = [
        {"role": "system", "content": "be short"},
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "t1", "content": [{"type": "text", "text": "found"}]},
    ]

    found = list(
        told({"messages": messages, "tools": [tool], "functions": None, "response_format": schema})
    )

    assert found == [
        "be short",
        "search",
        ARGUMENTS,
        "found",
        '[{"type":"function","function":{"name":"f","parameters":{"type":"object"}}}]',
        '{"type":"json_schema","json_schema":{"name":"s","schema":{}}}',
    ]


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(
            ["content", "refusal", "reasoning", "reasoning_details", "tool_calls", "function", "name",
             "arguments", "text", "thinking", "audio", "transcript", "custom", "function_call"]),
        inner, max_size=4),
    max_leaves=20,
)  # fmt: skip


@given(_JSON)
def test_no_shape_of_an_answer_raises(said: Any) -> None:
    """A completion is not lost for a field that is only counted."""
    assert all(isinstance(text, str) for text in [*spoken(said), *told({"messages": [said]})])
