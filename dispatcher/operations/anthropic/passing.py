"""Message requests that go to a backend of Anthropic's protocol as they came, and its answers, which go back as they came. Pure.

In the log such a body says its version and its betas in itself, as Amazon's and Google's forms of Anthropic's API have them; that is
its mark, and both become headers here. Of answers only usage, errors and texts are read. The first event waits for the first
content, so that another backend may answer where this one fails behind it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from dispatcher.operations.anthropic.answers import error_words
from dispatcher.operations.anthropic.inputs import written
from dispatcher.operations.binding import Answer, Binding
from dispatcher.operations.chat_stream import ChatStream
from dispatcher.operations.dialect import AS_IT_IS, Dialect
from dispatcher.operations.openai_json import names_in
from dispatcher.operations.other_form import DONE
from dispatcher.operations.usage.reading import believed, counts_of, tier
from dispatcher.upstream import foreign
from dispatcher.upstream.backend_words import BackendError, is_error
from dispatcher.upstream.event_splitter import UpstreamGarbage, data_of
from dispatcher.upstream.json_reader import read_json
from dispatcher.upstream.tally import Tally
from dispatcher.upstream.tokenizer import count_text
from dispatcher.work import Choice
from schemas.entities import Backend
from schemas.messages import BETAS, FREE_BETAS, VERSION, texts_in

__all__ = ["BINDING", "MessageRelay", "is_passed"]

_OBJECTS_MAX: Final = 100_000
_MARK: Final = msgspec.json.encode(VERSION)
_FIELDS: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_NAMES: Final = msgspec.json.Decoder(list[str] | None)
_ANY: Final = msgspec.json.Decoder(dict[str, Any])


def is_passed(payload: bytes) -> bool:
    """Whether a body of the log is a message request as it came, and not the chat completion that it stands for."""
    return _MARK in payload and VERSION in names_in(payload)


def encode(payload: bytes, choice: Choice, _: Dialect = AS_IT_IS) -> bytes:
    """The body as it came, with the backend's own name of the model where it has one."""
    body = _FIELDS.decode(payload)
    body.pop(VERSION, None)
    body.pop(BETAS, None)
    if choice.upstream_model is not None:
        body["model"] = msgspec.Raw(msgspec.json.encode(choice.upstream_model))
    return msgspec.json.encode(body)


def headers(payload: bytes, backend: Backend) -> dict[str, str]:
    """The betas that the client asks for and the backend's operator lets pass."""
    given = _FIELDS.decode(payload).get(BETAS)
    allowed = FREE_BETAS if backend.betas is None else backend.betas
    named = () if given is None else _NAMES.decode(given) or ()
    betas = [name for name in named if name in allowed]
    return {"anthropic-beta": ",".join(betas)} if betas else {}


def read_body(body: bytes) -> tuple[Answer, bytes]:
    """A whole message, and the body to relay.

    Raises ``UpstreamGarbage`` when it is none, ``BackendError`` when it is an error.
    """
    message, body = read_json(_ANY, body, _OBJECTS_MAX)
    if message.get("error") or is_error(message):
        raise BackendError(error_words(message))
    content = message.get("content")
    if not isinstance(content, list):
        raise UpstreamGarbage("no message")
    output = Tally()
    for text in _said(content):
        output.add(text)
    usage = message.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    counts = believed(counts_of(usage), has_text=output.has_text)
    answer = Answer(
        foreign.provider_id(message.get("id")), counts, output, tier(usage.get("service_tier"))
    )
    return answer, body


def count_input(payload: bytes) -> int:
    """Tokens of all texts in a body."""
    return count_text("\n".join(texts_in(msgspec.json.decode(payload))))


@dataclass(slots=True)
class MessageRelay(ChatStream):
    """Relays the events of a message, and notes what they say."""

    _held: bytes = b""
    """The first event, until there is content."""
    _used: dict[str, Any] = field(default_factory=dict)

    def answer(self) -> Answer:
        """What the stream amounted to; of one that broke off the input counts as the backend told it."""
        read = ChatStream.answer(self)
        if read.usage is not None or not self._used:
            return read
        return msgspec.structs.replace(read, input_told=counts_of(self._used))

    def _chunks(self, body: bytes) -> bytes:
        """The events of an answer that is no stream."""
        answer, body = read_body(body)
        self.provider_id, self.usage, self.output = answer.provider_id, answer.usage, answer.output
        self.tier, self.done = answer.service_tier, True
        return b"".join(_events_of(_ANY.decode(body)))

    def _relayed(self, event: bytes) -> bytes:
        payload, name = data_of(event)
        if not payload or payload == DONE:
            self.done = self.done or payload == DONE
            self.splitter.nothing_said()
            return b""
        if payload[:1] != b"{":
            self._odd(payload, is_error=name == b"error")
            return b""
        told, payload = read_json(_ANY, payload, _OBJECTS_MAX)
        kind = told.get("type")
        if name == b"error" or kind == "error" or told.get("error"):
            self.error = error_words(told)
            return b""
        if kind == "message_stop":
            self.done = True
            return b""
        if kind == "ping":
            self.splitter.nothing_said()
            return b""
        self._note(kind, told)
        relayed = _line(name or (kind.encode() if isinstance(kind, str) else b""), payload)
        if kind == "message_start" and not self._held:
            self._held = relayed
            return b""
        relayed, self._held = self._held + relayed, b""
        return relayed

    def _note(self, kind: Any, told: dict[str, Any]) -> None:
        match kind:
            case "message_start":
                message = told.get("message")
                message = message if isinstance(message, dict) else {}
                self.provider_id = self.provider_id or foreign.provider_id(message.get("id"))
                self._note_use(message.get("usage"))
            case "content_block_start":
                self._hear([told.get("content_block")])
            case "content_block_delta":
                self._hear([told.get("delta")])
            case "message_delta":
                self._note_use(told.get("usage"))
                self.usage = believed(counts_of(self._used), has_text=self.output.has_text)
                delta = told.get("delta")
                if isinstance(delta, dict) and delta.get("stop_reason"):
                    self._seen.add(0)
                    self._ended.add(0)

    def _hear(self, blocks: list[Any]) -> bool:
        for text in _said(blocks):
            self.output.add(text)
        return False

    def _note_use(self, usage: Any) -> None:
        if isinstance(usage, dict):
            self._used |= {name: value for name, value in usage.items() if value is not None}
            self.tier = tier(self._used.get("service_tier"))


def _line(name: bytes, payload: bytes) -> bytes:
    """An event under its name, which has no line ends; those of JSON stand between tokens and become blanks."""
    data = payload.replace(b"\n", b" ").replace(b"\r", b" ")
    return b"event: %b\ndata: %b\n\n" % (name.replace(b"\r", b""), data)


def _said(blocks: list[Any]) -> Iterator[str]:
    """The texts of blocks, and of pieces of them: what is said, thought and called."""
    for block in blocks:
        for name in ("text", "thinking", "partial_json", "name") if isinstance(block, dict) else ():
            if isinstance(text := block.get(name), str) and text:
                yield text
        if isinstance(block, dict) and (given := block.get("input")):
            yield written(given).decode()


def _events_of(message: dict[str, Any]) -> Iterator[bytes]:
    """The events that a whole message amounts to: each block at once."""
    content = message["content"]
    begun = {**message, "content": [], "stop_reason": None, "stop_sequence": None}
    yield _event("message_start", message=begun)
    for index, block in enumerate(content):
        yield _event("content_block_start", index=index, content_block=block)
        yield _event("content_block_stop", index=index)
    delta = {name: message.get(name) for name in ("stop_reason", "stop_sequence")}
    yield _event("message_delta", delta=delta, usage=message.get("usage"))


def _event(kind: str, **fields: Any) -> bytes:
    return _line(kind.encode(), written({"type": kind, **fields}))


BINDING: Final = Binding(encode, read_body, count_input, MessageRelay, headers)
