"""Counts tokens where a backend did not: an exact tokenizer of the field, marked as an estimate.

Never used for holds, because no tokenizer bounds a foreign model.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import msgspec
from rs_bpe.bpe import openai

from schemas.money import TokenCounts


@functools.cache
def _encoding() -> Any:
    return openai.o200k_base()


def count_text(text: str) -> int:
    """Tokens of the text in o200k_base."""
    return int(_encoding().count(text))


def estimate(payload: bytes, output: str) -> TokenCounts:
    """Tokens of a request body's texts and of the output produced so far."""
    return TokenCounts(
        count_text("\n".join(_texts(msgspec.json.decode(payload)))), count_text(output)
    )


def _texts(value: Any) -> Iterator[str]:
    """The texts of a chat body's messages."""
    for message in value.get("messages", []):
        content = message.get("content")
        if isinstance(content, str):
            yield content
        elif isinstance(content, list):
            yield from (p["text"] for p in content if isinstance(p.get("text"), str))
