"""Chat completions, as backends are asked for them: reads answers, and counts what requests tell a model. Pure.

Unknown fields are neither read nor lost: bodies and events are relayed as the backend sent them, with
U+FFFD in place of bytes that are no UTF-8.
"""

from __future__ import annotations

from typing import Final

import msgspec

from dispatcher.operations import openai_json
from dispatcher.operations.binding import Answer, Binding
from dispatcher.operations.chat_stream import ChatStream
from dispatcher.operations.completion import read_completion
from dispatcher.operations.other_form import completion_of, looks_like_events
from dispatcher.operations.spoken import told
from dispatcher.upstream.tokenizer import count_text


def read_body(body: bytes) -> tuple[Answer, bytes]:
    """A whole answer, or one that came as a stream, and the body to relay.

    Raises ``UpstreamGarbage`` when it is neither, ``BackendError`` when it is an error.
    """
    return read_completion(completion_of(body) if looks_like_events(body) else body)


def count_input(payload: bytes) -> int:
    """Tokens of all that a request body tells a model: messages, tools, the form of the answer."""
    return count_text("\n".join(told(msgspec.json.decode(payload))))


BINDING: Final = Binding(openai_json.encode, read_body, count_input, ChatStream)
