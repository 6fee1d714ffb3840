"""Text completions, as backends are asked for them; their answers are read as those of chat completions are. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import msgspec

from dispatcher.operations import openai_json
from dispatcher.operations.binding import Binding
from dispatcher.operations.chat import read_body
from dispatcher.operations.chat_stream import ChatStream
from dispatcher.operations.dialect import AS_IT_IS, Dialect
from dispatcher.operations.openai_json import given_tokens
from dispatcher.work import Choice


class _Asked(msgspec.Struct, frozen=True):
    prompt: Any = ()
    suffix: Any = None


_ASKED: Final = msgspec.json.Decoder(_Asked)


def encode(payload: bytes, choice: Choice, dialect: Dialect = AS_IT_IS) -> bytes:
    """The body in the backend's dialect. It has one name of its limit everywhere: another that chat completions of
    the model taught would not be obeyed here."""
    if dialect.limit == "max_completion_tokens":
        dialect = replace(dialect, limit=None)
    return openai_json.encode(payload, choice, dialect)


def count_input(payload: bytes) -> int:
    """Tokens of the prompts and of what is to follow them; those that stand in them as numbers are counted so."""
    asked = _ASKED.decode(payload)
    return given_tokens(asked.prompt) + given_tokens(asked.suffix or ())


BINDING: Final = Binding(encode, read_body, count_input, ChatStream)
