"""Decides what counting the tokens of a message request counts: an estimate of its input, not its bound. Pure.

All that a model is told is counted by the model's own tokenizer, or by o200k_base where none is declared, as an answer
without usage is; what a template puts around messages is guessed. Media count as their model states, as in the bound.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec

from ingress.apis.anthropic import passed
from ingress.apis.anthropic.checks import first_wrong
from ingress.apis.anthropic.messages import chat_of, in_anthropic_terms
from ingress.apis.anthropic.turns import turns_of
from ingress.apis.exact_bound import Texts
from ingress.apis.openai.parts import read_media
from ingress.apis.parsed_request import Fields
from ingress.auth.api_key import asked_model
from ingress.auth.billing import NOTHING
from ingress.auth.caller import Caller
from ingress.http.refusals import Refusal
from schemas.config_state import Snapshot

__all__ = ["input_tokens", "read_counting"]

_TOKENS_PER_MESSAGE: Final = 4
"""What templates put around one, by custom (tiktoken's cookbook counts as many)."""
_BYTES_PER_TOKEN: Final = 4
"""Of English prose, where there are too many to be counted."""


def read_counting(fields: Fields, snapshot: Snapshot, caller: Caller) -> Texts | Refusal:
    """What is to be counted, or the first field that is wrong."""
    model = asked_model(fields, snapshot, caller)
    if isinstance(model, Refusal):
        return model
    if passed.is_passed(model, snapshot):
        return passed.read_counting(fields, model, NOTHING)
    refusal = first_wrong(fields, counts_only=True)
    if refusal is not None:
        return refusal
    turns = list(turns_of(fields))
    asked = chat_of(fields, turns)
    media = read_media(asked["messages"], model, NOTHING)
    if isinstance(media, Refusal):
        return in_anthropic_terms(media, turns)
    plain = tuple(_told(asked))
    return Texts(
        tokenizer=model.counted_by or "o200k_base",
        plain=plain,
        quoted=(),
        size_bytes=sum(len(text.encode()) for text in plain),
        rest_tokens=media.tokens + len(turns) * _TOKENS_PER_MESSAGE,
    )


def input_tokens(texts: Texts, counted: int | None) -> int:
    """The number to tell: as they were counted, else a token for every four bytes."""
    if counted is not None:
        return counted
    return texts.rest_tokens + -(-texts.size_bytes // _BYTES_PER_TOKEN)


def _told(asked: Fields) -> Iterator[str]:
    for message in asked["messages"]:
        content = message.get("content")
        if isinstance(content, str):
            yield content
        else:
            yield from (part["text"] for part in content or () if part["type"] == "text")
        for call in message.get("tool_calls", ()):
            yield from call["function"].values()
    for name in ("tools", "response_format"):
        if name in asked:
            yield msgspec.json.encode(asked[name]).decode()
