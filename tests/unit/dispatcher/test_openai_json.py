"""What all operations of the OpenAI protocol have in common: the name of the model in a body."""

from __future__ import annotations

import json

import pytest

from dispatcher.operations.openai_json import encode
from dispatcher.work import Choice
from schemas.entities import Backend

BODY = b'{"seed": 1152921504606846977123456789, "model": "echo","x":{"a": [1.10]}}'


def _choice(upstream_model: str | None) -> Choice:
    return Choice("b1", Backend(url="http://127.0.0.1:9"), upstream_model)


@pytest.mark.parametrize("asked", [None, "echo-2"])
def test_a_backend_is_asked_under_its_own_name_of_the_model(asked: str | None) -> None:
    """Where it has one; everything else of the body stays."""
    body = json.loads(encode(b'{"model":"echo","n":1}', _choice(asked)))

    assert body == {"model": asked or "echo", "n": 1}


def test_renaming_the_model_keeps_every_other_byte() -> None:
    """Numbers beyond 64 bits too."""
    body = encode(BODY, _choice("echo-2"))

    assert b"1152921504606846977123456789" in body
    assert b'{"a": [1.10]}' in body
    assert json.loads(body)["model"] == "echo-2"


def test_a_body_whose_model_has_its_name_everywhere_is_sent_as_it_is() -> None:
    """Not one byte is written anew."""
    assert encode(BODY, _choice(None)) is BODY
