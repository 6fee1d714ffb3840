"""Reads the stream of a backend that speaks Anthropic's protocol as that of a chat completion, while it is relayed. Pure.

Each event becomes the chunks that stand for it, which the one reader of chat completions reads and relays. Nothing leaves
before the first content: an error behind the first event is then one that another backend may mend. Pings and what is not
known are no content. Counts of a stream are cumulative: what its last event leaves out its first has told.
Source: Anthropic's Messages API, streaming.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from dispatcher.operations.anthropic.answers import (
    REASONS,
    THOUGHTS,
    completion_of,
    error_words,
    usage_told,
)
from dispatcher.operations.anthropic.inputs import arguments_of, written
from dispatcher.operations.binding import Answer
from dispatcher.operations.chat_stream import ChatStream
from dispatcher.operations.other_form import DONE, event_of
from dispatcher.operations.usage.reading import counts_of
from dispatcher.upstream.event_splitter import UpstreamGarbage, data_of
from dispatcher.upstream.json_reader import value_of

__all__ = ["MessageStream"]

_DONE: Final = event_of(DONE)
_OPEN_MAX: Final = 1_000
"""Thoughts that are being told at once; there is one."""


@dataclass(slots=True)
class _Thought:
    """A thought that is being told, in pieces: a signature is only good for all of it."""

    block: dict[str, Any]
    texts: list[str] = field(default_factory=list)
    signatures: list[str] = field(default_factory=list)

    def whole(self) -> dict[str, Any]:
        """The block as it is sent back."""
        said = dict(self.block)
        for name, pieces in (("thinking", self.texts), ("signature", self.signatures)):
            if pieces:
                begun = said.get(name)
                said[name] = "".join([begun if isinstance(begun, str) else "", *pieces])
        return said


@dataclass(slots=True)
class MessageStream(ChatStream):
    """Splits a stream of a message into its events, and hands out the chunks of a chat completion to relay."""

    created_s: int = 0
    """The time of the answer, which messages have not."""
    _head: dict[str, Any] = field(default_factory=dict)
    """What every chunk says."""
    _used: dict[str, Any] = field(default_factory=dict)
    """What the stream has told of its use so far."""
    _has_spoken: bool = False
    _calls: dict[Any, int] = field(default_factory=dict)
    """The number of the call that each block stands for."""
    _thoughts: dict[Any, _Thought] = field(default_factory=dict)
    """By block."""

    def answer(self) -> Answer:
        """What the stream amounted to; of one that broke off the input counts as the backend told it."""
        read = ChatStream.answer(self)
        if read.usage is not None or not self._used:
            return read
        return msgspec.structs.replace(read, input_told=counts_of(self._used))

    def _chunks(self, body: bytes) -> bytes:
        """Of an answer that is no stream."""
        whole = completion_of(value_of(body), self.created_s)
        return ChatStream._chunks(self, written(whole))  # noqa: SLF001  # a class with slots has no super()

    def _relayed(self, event: bytes) -> bytes:
        payload, name = data_of(event)
        if not payload:
            self.splitter.nothing_said()
            return b""
        if payload == DONE:
            return self._read(_DONE)  # Of a proxy that ends all its streams so.
        told = value_of(payload)
        if not isinstance(told, dict):
            self._odd(payload, is_error=name == b"error")
            return b""
        if name == b"error" or told.get("type") == "error" or told.get("error"):
            self.error = error_words(told)
            return b""
        return self._told(told)

    def _told(self, event: dict[str, Any]) -> bytes:
        match event.get("type"):
            case "message_start":
                self._begin(event.get("message"))
            case "content_block_start":
                return self._block(event.get("index"), event.get("content_block"))
            case "content_block_delta":
                return self._piece(event.get("index"), event.get("delta"))
            case "content_block_stop":
                return self._thought(event.get("index"))
            case "message_delta":
                return self._end(event.get("delta"), event.get("usage"))
            case "message_stop":
                return self._read(_DONE)
        self.splitter.nothing_said()
        return b""

    def _begin(self, message: Any) -> None:
        message = message if isinstance(message, dict) else {}
        self._head = {"id": message.get("id"), "model": message.get("model")}
        self._note_use(message.get("usage"))

    def _block(self, index: Any, block: Any) -> bytes:
        """A block begins; of a text or a call some servers send all of it at once."""
        block = block if isinstance(block, dict) else {}
        match block.get("type"):
            case "text":
                return self._say(content=_text(block.get("text")))
            case "tool_use":
                number = self._calls.setdefault(_key(index), len(self._calls))
                arguments = arguments_of(block["input"]) if block.get("input") else ""
                function = {"name": block.get("name"), "arguments": arguments}
                call = {"index": number, "id": block.get("id"), "type": "function"}
                return self._say(tool_calls=[{**call, "function": function}])
            case kind if kind in THOUGHTS:
                if len(self._thoughts) >= _OPEN_MAX:
                    raise UpstreamGarbage(f"more than {_OPEN_MAX} thoughts at once")
                self._thoughts[_key(index)] = _Thought(block)
                return self._say(reasoning_content=_text(block.get("thinking")))
        return b""

    def _piece(self, index: Any, delta: Any) -> bytes:
        delta = delta if isinstance(delta, dict) else {}
        match delta.get("type"):
            case "text_delta":
                return self._say(content=_text(delta.get("text")))
            case "thinking_delta":
                return self._think(index, _text(delta.get("thinking")))
            case "signature_delta" if (thought := self._thoughts.get(_key(index))) is not None:
                thought.signatures.append(_text(delta.get("signature")))
            case "input_json_delta" if (number := self._calls.get(_key(index))) is not None:
                piece = delta.get("partial_json")
                if isinstance(piece, str) and piece:
                    return self._say(
                        tool_calls=[{"index": number, "function": {"arguments": piece}}]
                    )
        return b""

    def _think(self, index: Any, piece: str) -> bytes:
        thought = self._thoughts.get(_key(index))
        if thought is not None:
            thought.texts.append(piece)
        return self._say(reasoning_content=piece)

    def _thought(self, index: Any) -> bytes:
        """A block ends; a thought is told whole once more, to be sent back."""
        thought = self._thoughts.pop(_key(index), None)
        return b"" if thought is None else self._say(thinking_blocks=[thought.whole()])

    def _end(self, delta: Any, usage: Any) -> bytes:
        """Why it ends, and what was used."""
        self._note_use(usage)
        delta = delta if isinstance(delta, dict) else {}
        reason = delta.get("stop_reason")
        told = b""
        if isinstance(reason, str):
            choice: dict[str, Any] = {"finish_reason": REASONS.get(reason, "stop")}
            if isinstance(sequence := delta.get("stop_sequence"), str):
                choice["stop_reason"] = sequence
            told = self._chunk([{"index": 0, "delta": self._delta({}), **choice}])
        used = usage_told(self._used)
        return told + (self._chunk([], **used) if "usage" in used else b"")

    def _note_use(self, usage: Any) -> None:
        if isinstance(usage, dict):
            self._used |= {name: value for name, value in usage.items() if value is not None}

    def _say(self, **said: Any) -> bytes:
        """A chunk of what was said; none of what says nothing."""
        delta = {name: value for name, value in said.items() if value}
        if not delta:
            return b""
        return self._chunk([{"index": 0, "delta": self._delta(delta), "finish_reason": None}])

    def _delta(self, delta: dict[str, Any]) -> dict[str, Any]:
        """The first one says whose it is."""
        if self._has_spoken:
            return delta
        self._has_spoken = True
        return {"role": "assistant", "content": "", **delta}

    def _chunk(self, choices: list[dict[str, Any]], **more: Any) -> bytes:
        head = {"object": "chat.completion.chunk", "created": self.created_s}
        chunk = {**self._head, **head, "choices": choices, **more}
        return self._read(event_of(written(chunk)))

    def _read(self, event: bytes) -> bytes:
        return ChatStream._relayed(self, event)  # noqa: SLF001  # a class with slots has no super()


def _text(given: Any) -> str:
    return given if isinstance(given, str) else ""


def _key(index: Any) -> Any:
    """Of a block; whatever came as its number."""
    return index if isinstance(index, int | str) else None
