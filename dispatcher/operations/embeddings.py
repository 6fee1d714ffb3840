"""Embeddings: reads their usage, and counts the tokens of their input. Pure.

What a backend sent is relayed as it is; the vectors are not even read.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from dispatcher.operations import openai_json
from dispatcher.operations.binding import Answer, Binding
from dispatcher.operations.openai_json import ABSENT, counts, given_tokens, is_there
from dispatcher.upstream import foreign
from dispatcher.upstream.backend_words import BackendError, words_of_body
from dispatcher.upstream.json_reader import read_json
from dispatcher.upstream.tally import Tally

_OBJECTS_MAX: Final = 100_000
"""There is one for each input, and a few for the whole."""
_ERROR_BYTES_MAX: Final = 64 * 1024


class _Body(msgspec.Struct, frozen=True):
    id: Any = None
    usage: msgspec.Raw = ABSENT
    error: msgspec.Raw = ABSENT


class _Asked(msgspec.Struct, frozen=True):
    input: Any = ()


_BODIES: Final = msgspec.json.Decoder(_Body)
_ASKED: Final = msgspec.json.Decoder(_Asked)


def read_body(body: bytes) -> tuple[Answer, bytes]:
    """A whole JSON answer, and the body to relay; whatever it says, no output was made."""
    parsed, body = read_json(_BODIES, body, _OBJECTS_MAX)
    if is_there(parsed.error):
        raise BackendError(words_of_body(body[:_ERROR_BYTES_MAX]))
    usage = counts(parsed.usage, has_output=False)
    return Answer(foreign.provider_id(parsed.id), usage, Tally()), body


def count_input(payload: bytes) -> int:
    """Tokens of the texts in a request body, and those that stand in it as numbers."""
    return given_tokens(_ASKED.decode(payload).input)


BINDING: Final = Binding(openai_json.encode, read_body, count_input)
