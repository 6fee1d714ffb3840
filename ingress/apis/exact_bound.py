"""The exact bound of a request's input: what its model's own tokenizer makes of its texts. Pure.

Only the texts of messages are counted; everything else of the body, names, schemas, arguments and numbers, stays
bounded by its bytes, and what surrounds a message by its fixed overhead. So the bound does not depend on how a
template writes tools or roles. At its ends a text may meet other text: a few tokens more for each.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from schemas.tokenizers import Count, Tokenizer

__all__ = ["Texts", "exact_bound", "texts_of"]

EDGE_TOKENS: Final = 8
"""What the text beside it may change at the ends of a text."""
_QUOTED_ROLES: Final = frozenset({"tool", "function", "ipython"})
"""Their texts are written as JSON by some templates (Llama 3.1), so the longer of both is counted."""


@dataclass(frozen=True, slots=True)
class Texts:
    """The texts of a request, and a bound of the tokens of all else."""

    tokenizer: Tokenizer
    plain: tuple[str, ...]
    quoted: tuple[str, ...]
    size_bytes: int
    """Of all of them, as UTF-8."""
    rest_tokens: int


def texts_of(
    plain: Iterable[str], quoted: Iterable[str], tokenizer: Tokenizer, bound: int
) -> Texts:
    """The texts of a body whose input is bound to so many tokens by its bytes: they take at least their own of it."""
    all_plain, all_quoted = tuple(plain), tuple(quoted)
    size_bytes = sum(len(text.encode()) for text in (*all_plain, *all_quoted))
    edges = EDGE_TOKENS * (len(all_plain) + len(all_quoted))
    return Texts(tokenizer, all_plain, all_quoted, size_bytes, bound - size_bytes + edges)


def texts_of_messages(messages: list[Any], tokenizer: Tokenizer, bound: int) -> Texts:
    """Those of a chat completion."""
    plain: list[str] = []
    quoted: list[str] = []
    for message in messages:
        texts = quoted if message.get("role") in _QUOTED_ROLES else plain
        content = message.get("content")
        if isinstance(content, str):
            texts.append(content)
        elif content is not None:
            texts += (p["text"] for p in content if isinstance(p.get("text"), str))
    return texts_of(plain, quoted, tokenizer, bound)


def exact_bound(texts: Texts, count: Count) -> int:
    """The bound of the input in tokens of the model's tokenizer. Raises what the tokenizer raises."""
    counted = sum(map(count, texts.plain))
    for text in texts.quoted:
        written = msgspec.json.encode(text).decode()[1:-1]
        most = count(text)
        counted += most if written == text else max(most, count(written))
    return texts.rest_tokens + counted
