"""What a chat completion may ask for, and the bounds that follow from it."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingress.apis.openai.chat import (
    CHOICES_MAX,
    MESSAGES_MAX,
    OUTPUT_TOKENS_MAX,
    read_call,
)
from ingress.apis.parsed_request import Call
from ingress.auth.api_key import asked_model
from ingress.auth.caller import Caller
from ingress.http.refusals import Refusal
from schemas.entities import Model, Target
from tests.support.configuration import snapshot

MODEL = Model(backends=(Target(backend="b"),), default_max_output_tokens=100)
CAPPED = Model(backends=(Target(backend="b"),), max_output_tokens=50, image_tokens=1_000)
HELLO = [{"role": "user", "content": "hello"}]
IMAGE = {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}


def _call(model: Model = MODEL, **fields: Any) -> Call:
    call = read_call({"model": "m", "messages": HELLO, **fields}, model)
    assert isinstance(call, Call)
    return call


def _body(call: Call) -> dict[str, Any]:
    body = json.loads(call.payload)
    assert isinstance(body, dict)
    return body


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": None}, "messages"),
        ({"messages": "hello"}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": HELLO * (MESSAGES_MAX + 1)}, "messages"),
        ({"messages": ["hello"]}, "messages[0]"),
        ({"messages": [*HELLO, {"content": "x"}]}, "messages[1].role"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": ["x"]}]}, "messages[0].content[0]"),
        ({"messages": [{"role": "user", "content": [{}]}]}, "messages[0].content[0].type"),
        (
            {"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]},
            "messages[0].content[0].type",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "file"}]}]},
            "messages[0].content[0].type",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": []}]}]},
            "messages[0].content[0].type",
        ),
        ({"messages": [{"role": "assistant", "audio": {"id": "a"}}]}, "messages[0].audio"),
        (
            {"messages": [{"role": "user", "content": [IMAGE]}]},
            "messages[0].content[0].type",
        ),
        ({"stream": "yes"}, "stream"),
        ({"stream": 1}, "stream"),
        ({"n": 0}, "n"),
        ({"n": CHOICES_MAX + 1}, "n"),
        ({"n": True}, "n"),
        ({"n": 2.0}, "n"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": "5"}, "max_tokens"),
        ({"max_completion_tokens": -1}, "max_completion_tokens"),
        ({"max_completion_tokens": OUTPUT_TOKENS_MAX + 1}, "max_completion_tokens"),
        ({"tools": {}}, "tools"),
        ({"functions": 1}, "functions"),
        ({"stream": True, "stream_options": []}, "stream_options"),
        ({"stream_options": {}}, "stream_options"),
        (
            {"stream": True, "stream_options": {"include_usage": 1}},
            "stream_options.include_usage",
        ),
    ],
)
def test_a_wrong_field_is_named(fields: dict[str, Any], param: str) -> None:
    """A 400 that names the field, whatever JSON stands in it."""
    refusal = read_call({"model": "m", "messages": HELLO, **fields}, MODEL)

    assert isinstance(refusal, Refusal)
    assert (refusal.status, refusal.code.value, refusal.param) == (400, "invalid_request", param)
    assert refusal.message.startswith(param)


@pytest.mark.parametrize("name", [None, "", 5, ["m"]])
def test_a_model_must_be_named(name: object) -> None:
    """By a non-empty string."""
    refusal = asked_model({"model": name}, snapshot(), Caller("k", "acme", None, None, None))

    assert isinstance(refusal, Refusal)
    assert refusal.param == "model"


def test_nulls_count_as_absent() -> None:
    """SDKs send null for what their user did not set."""
    names = ("stream", "n", "max_tokens", "max_completion_tokens", "tools", "stream_options")

    call = read_call({"model": "m", "messages": HELLO, **dict.fromkeys(names)}, MODEL)

    assert isinstance(call, Call)
    assert (call.stream, call.output_tokens_bound) == (False, 100)
    assert _body(call)["max_tokens"] == 100


def test_unknown_fields_pass_through() -> None:
    """The backend may know more than the gateway does."""
    assert _body(_call(guided_json={"a": [1]}))["guided_json"] == {"a": [1]}


@pytest.mark.parametrize(
    ("model", "fields", "sent", "bound"),
    [
        (MODEL, {}, {"max_tokens": 100}, 100),
        (MODEL, {"max_tokens": 7}, {"max_tokens": 7}, 7),
        (MODEL, {"max_completion_tokens": 7}, {"max_completion_tokens": 7}, 7),
        (MODEL, {"max_tokens": 7, "n": 3}, {"max_tokens": 7}, 21),
        (CAPPED, {}, {"max_tokens": 50}, 50),
        (CAPPED, {"max_completion_tokens": 90}, {"max_completion_tokens": 50}, 50),
        (
            MODEL,
            {"max_tokens": 7, "max_completion_tokens": 9},
            {"max_tokens": 7, "max_completion_tokens": 9},
            9,
        ),
    ],
)
def test_the_output_is_bounded_upstream(
    model: Model, fields: dict[str, Any], sent: dict[str, int], bound: int
) -> None:
    """The bound that is held is the one the backend is told, under the client's field name."""
    call = _call(model, **fields)

    names = ("max_tokens", "max_completion_tokens")
    assert {name: _body(call)[name] for name in names if name in _body(call)} == sent
    assert call.output_tokens_bound == bound


def test_usage_is_always_asked_of_a_streaming_backend() -> None:
    """Whether the client asked is remembered apart from it."""
    silent, asking = _call(stream=True), _call(stream=True, stream_options={"include_usage": True})

    assert _body(silent)["stream_options"] == _body(asking)["stream_options"]
    assert (silent.include_usage, asking.include_usage) == (False, True)


def test_the_input_bound_counts_bytes_messages_tools_and_images() -> None:
    """16 for each message and tool, 64 once, the model's bound for each image instead of its address."""
    content = [{"type": "text", "text": "what is this?"}, IMAGE, IMAGE]
    call = _call(CAPPED, messages=[*HELLO, {"role": "user", "content": content}], tools=[{}])

    urls = 2 * len(IMAGE["image_url"]["url"])  # type: ignore[index]
    assert call.input_tokens_bound == len(call.payload) - urls + 16 * 3 + 64 + 2 * 1_000


def test_what_a_backend_adds_to_each_request_is_part_of_the_bound() -> None:
    """Instructions of its own, which the body does not hold."""
    adding = msgspec.structs.replace(MODEL, input_overhead_tokens=700)

    assert _call(adding).input_tokens_bound == _call().input_tokens_bound + 700


@pytest.mark.parametrize(
    ("named", "fields", "sent", "bound"),
    [
        ("max_completion_tokens", {}, {"max_completion_tokens": 50}, 50),
        ("max_completion_tokens", {"max_tokens": 7}, {"max_completion_tokens": 7}, 7),
        (
            "max_completion_tokens",
            {"max_tokens": 7, "max_completion_tokens": 9},
            {"max_completion_tokens": 7},
            7,
        ),
        ("max_tokens", {"max_completion_tokens": 7, "n": 2}, {"max_tokens": 7}, 14),
        ("none", {}, {}, 50),
        ("none", {"max_tokens": 7, "n": 2}, {}, 100),
    ],
)
def test_the_models_name_of_the_limit_is_used(
    named: Any, fields: dict[str, Any], sent: dict[str, int], bound: int
) -> None:
    """Whatever the client calls it; one that takes none is held at the most that it makes (faults C10)."""
    model = msgspec.structs.replace(CAPPED, output_limit_field=named)
    call = _call(model, **fields)

    names = ("max_tokens", "max_completion_tokens")
    assert {name: _body(call)[name] for name in names if name in _body(call)} == sent
    assert call.output_tokens_bound == bound


@given(st.text(max_size=200))
def test_the_input_bound_covers_every_byte_of_the_text(text: str) -> None:
    """A byte-level tokenizer cannot make more tokens than the bound."""
    call = _call(messages=[{"role": "user", "content": text}])

    assert call.input_tokens_bound > len(text.encode())
