"""The tokenizers that count exactly: two by the names that OpenAI gave them, others by a file and its hash. Pure."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from rs_bpe.bpe import openai

__all__ = ["Count", "Tokenizer", "TokenizerFile", "TokenizerName", "count", "encoding"]

TokenizerName: TypeAlias = Literal["o200k_base", "cl100k_base"]
Count: TypeAlias = Callable[[str], int]
"""Tokens of a text, at most."""


@dataclass(frozen=True, slots=True)
class TokenizerFile:
    """A ``tokenizer.json`` of Hugging Face's format, in the directory that ingress is told."""

    name: str
    sha256: str
    """Of its content: another one is not used, so that every ingress counts alike."""


Tokenizer: TypeAlias = TokenizerName | TokenizerFile


@functools.cache
def encoding(name: TokenizerName) -> Any:
    """The tokenizer; reading its tables takes a fifth of a second once."""
    return openai.o200k_base() if name == "o200k_base" else openai.cl100k_base()


def count(name: TokenizerName, text: str) -> int:
    """Tokens of the text. Names of special tokens in it count as the texts that they are, which is more."""
    return int(encoding(name).count(text))
