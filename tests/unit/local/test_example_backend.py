"""The example backend's embeddings: vectors that depend on their input only, counted by hand."""

from __future__ import annotations

import base64
import struct
from typing import Any

import pytest

from deploy.embedded.example_backend import DIMENSIONS, embed


@pytest.mark.parametrize(
    ("given", "inputs", "tokens"),
    [("two words", 1, 2), (["two words", "one"], 2, 3), ([7, 8, 9], 1, 3), ([[7], [8, 9]], 2, 3)],
)
def test_each_input_has_a_vector_and_each_word_or_number_is_a_token(
    given: Any, inputs: int, tokens: int
) -> None:
    """In their order."""
    answer = embed({"model": "echo-1", "input": given})

    assert [each["index"] for each in answer["data"]] == list(range(inputs))
    assert {len(each["embedding"]) for each in answer["data"]} == {DIMENSIONS}
    assert answer["usage"] == {"prompt_tokens": tokens, "total_tokens": tokens}


def test_base64_holds_the_same_numbers() -> None:
    """As floats of 32 bits, little-endian."""
    (floats,) = embed({"input": "hello", "dimensions": 3})["data"]
    (coded,) = embed({"input": "hello", "dimensions": 3, "encoding_format": "base64"})["data"]

    assert list(struct.unpack("<3f", base64.b64decode(coded["embedding"]))) == floats["embedding"]
