"""What an embeddings call may ask for, and the bound of its input."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ingress.apis.openai.embeddings import parse
from ingress.apis.openai.given import GIVEN_MAX
from ingress.apis.parsed_request import Call, ParsedRequest
from ingress.auth.caller import Caller
from ingress.http.refusals import Refusal
from tests.support.configuration import snapshot

CALLER = Caller("k", "acme", None, None, None)


def _parsed(**fields: Any) -> ParsedRequest | Refusal:
    return parse({"model": "echo", "input": "hello", **fields}, snapshot(), CALLER)


def _call(**fields: Any) -> Call:
    parsed = _parsed(**fields)
    assert isinstance(parsed, ParsedRequest)
    return parsed.call


@pytest.mark.parametrize(
    ("fields", "status", "param"),
    [
        ({"model": None}, 400, "model"),
        ({"model": "nope"}, 404, "model"),
        ({"input": None}, 400, "input"),
        ({"input": ""}, 400, "input"),
        ({"input": []}, 400, "input"),
        ({"input": {}}, 400, "input"),
        ({"input": 7}, 400, "input"),
        ({"input": ["a"] * (GIVEN_MAX + 1)}, 400, "input"),
        ({"input": ["a", ""]}, 400, "input[1]"),
        ({"input": ["a", 7]}, 400, "input[1]"),
        ({"input": [7, "a"]}, 400, "input[0]"),
        ({"input": [7, True]}, 400, "input[0]"),
        ({"input": [-1]}, 400, "input[0]"),
        ({"input": [1.5]}, 400, "input[0]"),
        ({"input": [[7], []]}, 400, "input[1]"),
        ({"input": [[7], "a"]}, 400, "input[1]"),
        ({"input": [[[7]]]}, 400, "input[0]"),
        ({"encoding_format": "hex"}, 400, "encoding_format"),
        ({"encoding_format": ["float"]}, 400, "encoding_format"),
        ({"dimensions": 0}, 400, "dimensions"),
        ({"dimensions": True}, 400, "dimensions"),
        ({"dimensions": 2.0}, 400, "dimensions"),
        ({"user": 7}, 400, "user"),
        ({"stream": 0}, 400, "stream"),
    ],
)
def test_a_wrong_field_is_named(fields: dict[str, Any], status: int, param: str) -> None:
    """A message that begins with it."""
    refusal = _parsed(**fields)

    assert isinstance(refusal, Refusal)
    assert (refusal.status, refusal.param) == (status, param)
    assert status == 404 or refusal.message.startswith(param)


@pytest.mark.parametrize(
    ("given", "inputs"),
    [
        ("hello", 1),
        (["hello"], 1),
        (["hello"] * GIVEN_MAX, GIVEN_MAX),
        ([7] * 5_000, 1),
        ([[7, 8], [0]], 2),
    ],
    ids=["a text", "texts", "as many as may be", "tokens", "lists of tokens"],
)
def test_the_length_of_the_body_bounds_the_tokens(given: Any, inputs: int) -> None:
    """And what a model puts around each input; there is no output."""
    call = _call(input=given)

    assert call.input_tokens_bound == len(call.payload) + 16 * inputs + 64
    assert call.output_tokens_bound == 0


def test_what_is_not_named_here_passes_through() -> None:
    """Nulls too, as SDKs send them."""
    asked = {"encoding_format": None, "dimensions": 256, "user": "u", "input_type": "query"}

    call = _call(**asked)
    assert json.loads(call.payload) == {"model": "echo", "input": "hello", **asked}
    assert not call.stream


def test_a_cap_of_output_does_not_matter() -> None:
    """Of a model that has one."""
    assert _call(model="capped").output_tokens_bound == 0
