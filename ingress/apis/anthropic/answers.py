"""How a chat completion's answer reads as Anthropic's message: whole, or as events while it comes. Pure.

One that came as a message passes as it is. The first choice is read as on the native surface; what else backends send is left out. Usage is what is billed, where
the backend told nothing as well, so that it stands in the last event and not in the first. Sources: Anthropic's
Messages API and its streaming form; ``stop_reason`` beside ``finish_reason`` is vLLM's name of the stop sequence.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from ingress.apis.answer_format import cost_comment
from ingress.apis.anthropic.contract import ContentBlock, Message, MessageUsage, StopReason
from ingress.apis.native.said import (
    NOT_A_COMPLETION,
    Said,
    arguments_of,
    function_of,
    said_in,
    said_in_events,
    text_of,
)
from ingress.http.refusals import Refusal, anthropic_body
from schemas.frames import Terminal, Usage

__all__ = ["MessageFormat"]

_REASONS: Final[dict[str, StopReason]] = {
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "function_call": "tool_use",
    "content_filter": "refusal",
}
_NAMED: Final = b"event: "
"""How the events of a message begin; chunks of a chat completion have no names."""
_NOTHING_USED: Final[MessageUsage] = {
    "input_tokens": 0,
    "cache_creation_input_tokens": 0,
    "cache_read_input_tokens": 0,
    "output_tokens": 0,
}


@dataclass(slots=True)
class _Open:
    """A block of a stream."""

    index: int
    call_id: str | None = None
    """Of a call of a tool."""


@dataclass(slots=True)
class MessageFormat:
    """One answer; of a stream it knows how far it has come."""

    model: str
    name: str
    """What ids of the answer end with: it is the request's own."""
    _is_passed: bool = False
    """Whether its events come as a message's own."""
    _is_begun: bool = False
    _blocks: int = 0
    _open: _Open | None = None
    """The block that is being told."""
    _calls: dict[Any, _Open] = field(default_factory=dict)
    """The call that each number of a call stands for."""
    _end: Said = field(default_factory=Said)
    """What said why the answer ends."""
    _has_refused: bool = False

    def body(self, terminal: Terminal) -> bytes | Refusal:
        """The message; 502 when the backend's body says nothing of the kind."""
        said = said_in(terminal.body)
        if said is None:
            return terminal.body if _is_message(terminal.body) else NOT_A_COMPLETION
        content: list[ContentBlock] = []
        if text := said.text or said.refusal:
            content.append({"type": "text", "text": text})
        for call in said.tool_calls or ():
            if isinstance(call, dict):
                content.append(self._whole_call(call, len(content)))
        has_calls = any(block["type"] == "tool_use" for block in content)
        reason, sequence = _stop(said, has_calls=has_calls, has_refused=bool(said.refusal))
        return msgspec.json.encode(
            self._message(content, reason, sequence, _usage_told(terminal.usage))
        )

    def events(self, chunks: bytes) -> bytes:
        """The events of each piece of text, and of each piece of a call of a tool."""
        if chunks.startswith(_NAMED):
            self._is_passed = True
            return chunks
        told: list[bytes] = []
        for said in said_in_events(chunks):
            self._tell(said, told)
        return b"".join(told)

    def last_events(self, terminal: Terminal) -> bytes:
        """Why it ends, what was used, its cost as a comment, which clients skip, and the end mark."""
        if self._is_passed:
            return cost_comment(terminal.usage) + _event("message_stop")
        told: list[bytes] = []
        self._begin(told)
        self._close(told)
        has_calls = bool(self._calls)
        reason, sequence = _stop(self._end, has_calls=has_calls, has_refused=self._has_refused)
        delta = {"stop_reason": reason, "stop_sequence": sequence}
        told.append(_event("message_delta", delta=delta, usage=_usage_told(terminal.usage)))
        told.append(cost_comment(terminal.usage))
        told.append(_event("message_stop"))
        return b"".join(told)

    def failed_events(self, refusal: Refusal, request_id: str) -> bytes:
        """The error, as an event under its name."""
        return b"event: error\ndata: %b\n\n" % anthropic_body(refusal, request_id)

    def _message(
        self,
        content: list[ContentBlock],
        reason: StopReason | None,
        sequence: str | None,
        usage: MessageUsage,
    ) -> Message:
        return {
            "id": f"msg_{self.name}",
            "type": "message",
            "role": "assistant",
            "model": self.model,
            "content": content,
            "stop_reason": reason,
            "stop_sequence": sequence,
            "usage": usage,
        }

    def _tell(self, said: Said, told: list[bytes]) -> None:
        if said.finish_reason is not None:
            self._end = said
        self._has_refused = self._has_refused or bool(said.refusal)
        self._begin(told)
        if text := said.text or said.refusal:
            if self._open is None or self._open.call_id is not None:
                self._start({"type": "text", "text": ""}, None, told)
            self._add({"type": "text_delta", "text": text}, self._open, told)
        for piece in said.tool_calls or ():
            if isinstance(piece, dict):
                self._tell_call(piece, told)

    def _tell_call(self, piece: dict[str, Any], told: list[bytes]) -> None:
        """A piece of a call: a new one begins under a new number, or another id under a number that is known."""
        function, given_id = function_of(piece), text_of(piece.get("id"))
        number = piece.get("index")
        number = number if type(number) is int else None
        known = self._calls.get(number)
        if known is None or (given_id and given_id != known.call_id):
            call_id = given_id or self._call_id(self._blocks)
            name = text_of(function.get("name"))
            block: ContentBlock = {"type": "tool_use", "id": call_id, "name": name, "input": {}}
            known = self._calls[number] = self._start(block, call_id, told)
        if arguments := arguments_of(function):
            # One whose block was closed meanwhile goes on all the same: clients add up by number.
            self._add({"type": "input_json_delta", "partial_json": arguments}, known, told)

    def _begin(self, told: list[bytes]) -> None:
        if not self._is_begun:
            self._is_begun = True
            message = self._message([], None, None, _NOTHING_USED)
            told.append(_event("message_start", message=message))

    def _start(self, block: ContentBlock, call_id: str | None, told: list[bytes]) -> _Open:
        self._close(told)
        self._open = _Open(self._blocks, call_id)
        self._blocks += 1
        told.append(_event("content_block_start", index=self._open.index, content_block=block))
        return self._open

    def _add(self, delta: dict[str, str], block: _Open | None, told: list[bytes]) -> None:
        assert block is not None, "it was just started, or is known"
        told.append(_event("content_block_delta", index=block.index, delta=delta))

    def _close(self, told: list[bytes]) -> None:
        if self._open is not None:
            told.append(_event("content_block_stop", index=self._open.index))
            self._open = None

    def _whole_call(self, call: dict[str, Any], index: int) -> ContentBlock:
        function = function_of(call)
        return {
            "type": "tool_use",
            "id": text_of(call.get("id")) or self._call_id(index),
            "name": text_of(function.get("name")),
            "input": _input(arguments_of(function)),
        }

    def _call_id(self, index: int) -> str:
        """For a backend that gives none; of another turn it is another one."""
        return f"toolu_{self.name}_{index}"


class _Kind(msgspec.Struct, frozen=True):
    type: Any = None


_KIND: Final = msgspec.json.Decoder(_Kind)


def _is_message(body: bytes) -> bool:
    """Whether a backend's answer is a message already."""
    try:
        return bool(_KIND.decode(body).type == "message")
    except (ValueError, RecursionError):
        return False


def _event(kind: str, **fields: Any) -> bytes:
    """A server-sent event under its name."""
    data = msgspec.json.encode({"type": kind, **fields})
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), data)


def _stop(said: Said, *, has_calls: bool, has_refused: bool) -> tuple[StopReason, str | None]:
    """Why it ended, and the stop sequence where the backend names it."""
    reason = _REASONS.get(said.finish_reason or "")
    if reason is not None and not (reason == "tool_use" and not has_calls):
        return reason, None
    if has_calls:
        return "tool_use", None  # Some servers say stop behind calls.
    if has_refused:
        return "refusal", None
    return ("stop_sequence", said.stop) if said.stop else ("end_turn", None)


def _usage_told(usage: Usage | None) -> MessageUsage:
    """What is billed. Anthropic's input stands beside its caches, ours has them inside."""
    if usage is None:
        return _NOTHING_USED
    caches = usage.cached_tokens + usage.cache_write_tokens
    return {
        "input_tokens": max(0, usage.input_tokens - caches),
        "cache_creation_input_tokens": usage.cache_write_tokens,
        "cache_read_input_tokens": usage.cached_tokens,
        "output_tokens": usage.output_tokens,
    }


def _input(arguments: str) -> dict[str, Any]:
    """The object that they are; what is none, as where the output met its limit, stands in it as it came."""
    if not arguments.strip():
        return {}
    try:
        given = msgspec.json.decode(arguments)
    except (ValueError, RecursionError):
        given = None
    return given if isinstance(given, dict) else {"arguments": arguments}
