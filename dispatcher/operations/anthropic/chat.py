"""Chat completions, as backends that speak Anthropic's protocol are asked for them. Pure."""

from __future__ import annotations

from functools import partial

from dispatcher.operations import chat
from dispatcher.operations.anthropic import answers, asking
from dispatcher.operations.anthropic.chat_events import MessageStream
from dispatcher.operations.binding import Answer, Binding
from dispatcher.operations.completion import read_completion
from dispatcher.operations.other_form import DONE, completion_of, event_of, looks_like_events
from dispatcher.upstream.backend_words import BackendError
from dispatcher.upstream.event_splitter import UpstreamGarbage

__all__ = ["binding", "read_body"]


def binding(created_s: int) -> Binding:
    """How one is asked; its answer is told to be of that time."""
    return Binding(
        asking.encode,
        partial(read_body, created_s=created_s),
        chat.count_input,
        partial(MessageStream, created_s=created_s),
    )


def read_body(body: bytes, created_s: int) -> tuple[Answer, bytes]:
    """A whole answer, or one that came as a stream, and the chat completion to relay.

    Raises ``UpstreamGarbage`` when it is neither, ``BackendError`` when it is an error.
    """
    if not looks_like_events(body):
        return answers.read_body(body, created_s)
    stream = MessageStream(relays_usage=True, created_s=created_s)
    chunks = stream.feed(body) + stream.finish()
    if stream.error is not None:
        raise BackendError(stream.error)
    if stream.garbage is not None:
        raise stream.garbage
    if not (stream.done or stream.has_ended):
        raise UpstreamGarbage("a stream without end")
    return read_completion(completion_of(chunks + event_of(DONE)))
