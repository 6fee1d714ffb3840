"""What a text completion may ask for, and the bounds of its tokens."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ingress.apis.openai.chat import CHOICES_MAX, OUTPUT_TOKENS_MAX
from ingress.apis.openai.given import GIVEN_MAX
from ingress.apis.openai.text_completions import (
    DEFAULT_TOKENS,
    LOGPROBS_MAX,
    parse,
)
from ingress.apis.parsed_request import Call, ParsedRequest
from ingress.auth.caller import Caller
from ingress.http.refusals import Refusal
from schemas.config_state import Snapshot, prices_of
from schemas.entities import Budget, Limits, Model, Organization, Target
from schemas.pricing.entries import Price
from tests.support.configuration import snapshot

CALLER = Caller("k", "acme", None, None, None)


def _parsed(**fields: Any) -> ParsedRequest | Refusal:
    return parse({"model": "echo", "prompt": "hello", **fields}, snapshot(), CALLER)


def _call(**fields: Any) -> Call:
    parsed = _parsed(**fields)
    assert isinstance(parsed, ParsedRequest)
    return parsed.call


@pytest.mark.parametrize(
    ("fields", "status", "param"),
    [
        ({"model": None}, 400, "model"),
        ({"model": "nope"}, 404, "model"),
        ({"prompt": None}, 400, "prompt"),
        ({"prompt": []}, 400, "prompt"),
        ({"prompt": {}}, 400, "prompt"),
        ({"prompt": 7}, 400, "prompt"),
        ({"prompt": True}, 400, "prompt"),
        ({"prompt": ["a"] * (GIVEN_MAX + 1)}, 400, "prompt"),
        ({"prompt": ["a", 7]}, 400, "prompt[1]"),
        ({"prompt": ["a", None]}, 400, "prompt[1]"),
        ({"prompt": [7, "a"]}, 400, "prompt[0]"),
        ({"prompt": [7, True]}, 400, "prompt[0]"),
        ({"prompt": [-1]}, 400, "prompt[0]"),
        ({"prompt": [1.5]}, 400, "prompt[0]"),
        ({"prompt": [[7], []]}, 400, "prompt[1]"),
        ({"prompt": [[7], [7, -7]]}, 400, "prompt[1]"),
        ({"prompt": [[7], "a"]}, 400, "prompt[1]"),
        ({"prompt": [[[7]]]}, 400, "prompt[0]"),
        ({"prompt": [{"text": "a"}]}, 400, "prompt[0]"),
        ({"max_tokens": -1}, 400, "max_tokens"),
        ({"max_tokens": 1.0}, 400, "max_tokens"),
        ({"max_tokens": True}, 400, "max_tokens"),
        ({"max_tokens": OUTPUT_TOKENS_MAX + 1}, 400, "max_tokens"),
        ({"n": 0}, 400, "n"),
        ({"n": CHOICES_MAX + 1}, 400, "n"),
        ({"best_of": "2"}, 400, "best_of"),
        ({"logprobs": -1}, 400, "logprobs"),
        ({"logprobs": True}, 400, "logprobs"),
        ({"logprobs": LOGPROBS_MAX + 1}, 400, "logprobs"),
        ({"echo": 1}, 400, "echo"),
        ({"suffix": ["a"]}, 400, "suffix"),
        ({"user": 7}, 400, "user"),
        ({"stream": 0}, 400, "stream"),
        ({"stream_options": {}}, 400, "stream_options"),
        ({"stream": True, "stream_options": []}, 400, "stream_options"),
        ({"stream": True, "stream_options": {"include_usage": 1}}, 400, "stream_options.include_usage"),
    ],
)  # fmt: skip
def test_a_wrong_field_is_named(fields: dict[str, Any], status: int, param: str) -> None:
    """A message that begins with it."""
    refusal = _parsed(**fields)

    assert isinstance(refusal, Refusal)
    assert (refusal.status, refusal.param) == (status, param)
    assert status == 404 or refusal.message.startswith(param)


@pytest.mark.parametrize(
    ("given", "prompts"),
    [
        ("", 1),
        ("hello", 1),
        (["hello", ""], 2),
        (["hello"] * GIVEN_MAX, GIVEN_MAX),
        ([7] * 5_000, 1),
        ([[7, 8], [0]], 2),
    ],
    ids=["no text", "a text", "texts", "as many as may be", "tokens", "lists of tokens"],
)
def test_the_length_of_the_body_bounds_the_input_and_each_prompt_is_answered(
    given: Any, prompts: int
) -> None:
    """By OpenAI's 16 tokens where nothing is said, which the backend is told."""
    call = _call(prompt=given)

    assert json.loads(call.payload) == {"model": "echo", "prompt": given, "max_tokens": 16}
    assert call.input_tokens_bound >= len(call.payload) + prompts
    assert call.output_tokens_bound == DEFAULT_TOKENS * prompts


@pytest.mark.parametrize(
    ("fields", "tokens"),
    [
        ({"n": 3}, 30),
        ({"best_of": 4}, 40),
        ({"n": 2, "best_of": 5}, 50),
        ({"n": 2, "prompt": ["a", "b", "c"]}, 60),
        ({"n": None, "best_of": None}, 10),
    ],
)
def test_choices_and_prompts_multiply_the_output(fields: dict[str, Any], tokens: int) -> None:
    """Of n and best_of the greater: what is thrown away is made as well."""
    assert _call(max_tokens=10, **fields).output_tokens_bound == tokens


def test_an_echo_may_count_as_output() -> None:
    """Once for each choice; nothing else need be made then."""
    call = _call(prompt="hello there", max_tokens=0, echo=True, n=2)

    assert call.output_tokens_bound == 2 * call.input_tokens_bound
    assert json.loads(call.payload)["max_tokens"] == 0


def test_what_nobody_can_hold_is_refused() -> None:
    """The product of tokens, choices and prompts stays within what a chat completion may ask for."""
    refusal = _parsed(prompt=["a", "b"], max_tokens=OUTPUT_TOKENS_MAX, n=CHOICES_MAX)

    assert isinstance(refusal, Refusal)
    assert refusal.param == "max_tokens"
    assert isinstance(_parsed(max_tokens=OUTPUT_TOKENS_MAX, n=CHOICES_MAX), ParsedRequest)


def test_a_stream_always_asks_for_its_usage() -> None:
    """Whether the client gets it is its own wish."""
    call = _call(stream=True)
    asked = _call(stream=True, stream_options={"include_usage": True, "other": 1})

    assert json.loads(call.payload)["stream_options"] == {"include_usage": True}
    assert (call.stream, call.include_usage, asked.include_usage) == (True, False, True)
    assert json.loads(asked.payload)["stream_options"] == {"include_usage": True, "other": 1}


_PRICED = Price(input_usd_per_mtok="1", output_usd_per_mtok="2", cache_write_usd_per_mtok="1.25")


def _with_budget(**more: Any) -> Snapshot:
    flat = {} if "prices" in more else {"input_usd_per_mtok": "1", "output_usd_per_mtok": "2"}
    model = Model(backends=(Target(backend="b"),), **{**flat, **more})
    limits = Limits(budgets=(Budget(usd="1", period="day"),))
    return Snapshot(
        offset=1,
        organizations={"acme": Organization(limits=limits)},
        models={"m": model},
        prices={"m": prices_of("m", model, 1)},
    )


@pytest.mark.parametrize(
    ("field", "value"),
    [("rerank", True), ("tools", 5), ("messages", []), ("prediction", 7), ("n_predict", 9), ("audio", {})],
)  # fmt: skip
def test_what_may_cost_more_is_refused_where_a_budget_applies(field: str, value: Any) -> None:
    """By its name, whatever its type: fields of chat completions are none of a text completion's. Elsewhere it passes."""
    asked = {"model": "m", "prompt": "hi", field: value}
    refusal = parse(asked, _with_budget(), CALLER)

    assert isinstance(refusal, Refusal)
    assert (refusal.status, refusal.param) == (400, field)
    assert isinstance(parse(asked, _with_budget(unknown_fields="pass"), CALLER), ParsedRequest)


def test_a_price_of_cache_writes_is_held_to() -> None:
    """Backends write unasked."""
    parsed = parse({"model": "m", "prompt": "hi"}, _with_budget(prices=(_PRICED,)), CALLER)

    assert isinstance(parsed, ParsedRequest)
    assert parsed.call.reach is not None
    assert parsed.call.reach.cache_writes


@pytest.mark.parametrize(
    ("more", "sent", "bound"),
    [
        ({"max_output_tokens": 5}, 5, 5),
        ({"output_limit_field": "max_completion_tokens"}, 9, 9),
        ({"output_limit_field": "none", "max_output_tokens": 50}, None, 50),
    ],
)
def test_a_model_limits_it_under_its_only_name(
    more: dict[str, Any], sent: int | None, bound: int
) -> None:
    """Text completions know no other name of the limit than max_tokens."""
    parsed = parse({"model": "m", "prompt": "hi", "max_tokens": 9}, _with_budget(**more), CALLER)

    assert isinstance(parsed, ParsedRequest)
    assert json.loads(parsed.call.payload).get("max_tokens") == sent
    assert parsed.call.output_tokens_bound == bound
