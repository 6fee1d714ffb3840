"""How a chat completion's answer reads as OpenAI's response: whole, or as events while it comes. Pure.

The first choice is read as on the native surface; what else backends send is left out. Events are numbered in the order
in which they are told, which is the same whenever the same frames are told again. A text is done when something else
begins; calls are done at the end, because their pieces may come mixed. Source: OpenAI's Responses API and its streaming
events.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final, Literal, TypeAlias

import msgspec

from ingress.apis.answer_format import cost_comment
from ingress.apis.native.said import (
    NOT_A_COMPLETION,
    Said,
    arguments_of,
    function_of,
    said_in,
    said_in_events,
    text_of,
)
from ingress.apis.openai.responses.output import Item, ItemStatus
from ingress.http.refusals import Refusal, error_object
from schemas.errors import ErrorCode
from schemas.frames import Terminal, Usage
from schemas.ids import uuid7_time_ms
from schemas.responses import INCOMPLETE, response_id

__all__ = ["ANSWER_BYTES_MAX", "OpenStatus", "ResponseFormat"]

OpenStatus: TypeAlias = Literal["queued", "in_progress"]

ANSWER_BYTES_MAX: Final = 8 * 1024 * 1024
"""Of texts and arguments, which the last events of a stream tell once more: no longer stream is kept elsewhere."""
_ITEM_BYTES: Final = 256
"""What an item counts as that says nothing."""
_TOO_LONG: Final = Refusal(
    ErrorCode.UPSTREAM_ERROR, f"The answer is longer than {ANSWER_BYTES_MAX} characters."
)


@dataclass(slots=True)
class ResponseFormat:
    """One answer; of a stream it knows how far it has come."""

    request_id: str
    model: str
    members: bytes
    """What it repeats of its request: a JSON object."""
    is_background: bool = False
    """Whether it runs whoever listens, and is queued first."""
    _events: int = 0
    _is_begun: bool = False
    _chars: int = 0
    _items: list[Item] = field(default_factory=list)
    _message: Item | None = None
    """The message that is being told."""
    _calls: dict[Any, Item] = field(default_factory=dict)
    """The call that each number of a call stands for."""
    _finish_reason: str = ""
    _is_over: bool = False
    """Whether it was too long, so that its end has been told."""

    def body(self, terminal: Terminal) -> bytes | Refusal:
        """The response; 502 when the backend's body says nothing of the kind."""
        said = said_in(terminal.body)
        if said is None:
            return NOT_A_COMPLETION
        told: list[bytes] = []
        self._tell(said, told, is_whole=True)
        self._finish(told)
        return self._ended(terminal.usage)

    def kept(self, terminal: Terminal, after: int) -> bytes:
        """The last event of one whose others are not kept: all of it, under the number behind the client's last one. Nothing
        where the backend's body says nothing of the kind."""
        whole = self.body(terminal)
        if isinstance(whole, Refusal):
            return b""
        told = [cost_comment(terminal.usage)]
        self._events = after + 1
        self._event(told, f"response.{self._status}", response=msgspec.Raw(whole))
        return b"".join(told)

    def open(self, status: OpenStatus) -> bytes:
        """A response that has not ended."""
        return self._response(status)

    def ended(self, refusal: Refusal, status: Literal["failed", "cancelled"]) -> bytes:
        """A response that has no answer; one that was cancelled has no error."""
        error = _error_told(refusal) if status == "failed" else None
        return self._response(status, error=error)

    def opening(self) -> bytes:
        """The events of one in the background that has not begun."""
        told: list[bytes] = []
        self._create(told)
        return b"".join(told)

    def events(self, chunks: bytes) -> bytes:
        """The events of each piece of text, and of each piece of a call."""
        told: list[bytes] = []
        for said in said_in_events(chunks):
            if not self._is_over:
                self._tell(said, told)
        return b"".join(told)

    def last_events(self, terminal: Terminal) -> bytes:
        """What is not done is done, and the whole response; its cost as a comment, which clients skip."""
        if self._is_over:
            return b""
        told: list[bytes] = []
        self._begin(told)
        self._finish(told)
        told.append(cost_comment(terminal.usage))
        response = msgspec.Raw(self._ended(terminal.usage))
        self._event(told, f"response.{self._status}", response=response)
        return b"".join(told)

    def failed_events(self, refusal: Refusal, _: str) -> bytes:
        """What there is of the response, with its error, and the event at which SDKs raise it."""
        if self._is_over:
            return b""
        told: list[bytes] = []
        if self.is_background and refusal.code is ErrorCode.REQUEST_CANCELLED:
            self._cancel(told)
        else:
            self._fail(refusal, told)
        return b"".join(told)

    def interrupted(self, refusal: Refusal, after: int) -> bytes:
        """Why no more is told of one that may not have failed: the event at which SDKs raise. Its number is that of the
        event before it, or the client's last one, so that whoever goes on behind it misses none."""
        told: list[bytes] = []
        self._events = max(self._events - 1, after)
        self._error(refusal, told)
        return b"".join(told)

    @property
    def _status(self) -> Literal["completed", "incomplete"]:
        return "incomplete" if self._finish_reason in INCOMPLETE else "completed"

    def _fail(self, refusal: Refusal, told: list[bytes]) -> None:
        self._break_off(told, "failed", _error_told(refusal))
        self._error(refusal, told)

    def _cancel(self, told: list[bytes]) -> None:
        """Of the events of OpenAI the one that ends a response without an answer; its status says why, and it has no error."""
        self._break_off(told, "cancelled", None)

    def _break_off(
        self, told: list[bytes], status: Literal["failed", "cancelled"], error: Any
    ) -> None:
        self._is_over = True
        if self._events == 0 or not self.is_background:
            self._begin(told)
        for item in self._items:
            item.status = "incomplete" if item.status == "in_progress" else item.status
        response = msgspec.Raw(self._response(status, error=error))
        self._event(told, "response.failed", response=response)

    def _error(self, refusal: Refusal, told: list[bytes]) -> None:
        error = error_object(refusal)
        flat = {name: error[name] for name in ("code", "message", "param")}
        self._event(told, "error", **flat, error=error)

    def _ended(self, usage: Usage | None) -> bytes:
        reason = INCOMPLETE.get(self._finish_reason)
        return self._response(
            self._status,
            incomplete_details=None if reason is None else {"reason": reason},
            usage=_usage_told(usage),
        )

    def _response(self, status: str, **more: Any) -> bytes:
        response = {
            "id": response_id(self.request_id),
            "object": "response",
            "created_at": uuid7_time_ms(self.request_id) // 1000,
            "status": status,
            "error": None,
            "incomplete_details": None,
            "model": self.model,
            "output": [item.told() for item in self._items],
            "usage": None,
            **more,
        }
        return msgspec.json.encode(response)[:-1] + b"," + self.members[1:]

    def _tell(self, said: Said, told: list[bytes], *, is_whole: bool = False) -> None:
        self._finish_reason = said.finish_reason or self._finish_reason
        self._begin(told)
        if said.text:
            self._say("output_text", said.text, said.logprobs or [], told)
        if said.refusal:
            self._say("refusal", said.refusal, [], told)
        for place, piece in enumerate(said.tool_calls or ()):
            if isinstance(piece, dict):
                self._tell_call({**piece, "index": place} if is_whole else piece, told)
        if self._chars > ANSWER_BYTES_MAX:
            self._fail(_TOO_LONG, told)

    def _say(self, kind: str, text: str, logprobs: list[Any], told: list[bytes]) -> None:
        """A piece of text, or of a refusal: parts of one message."""
        message = self._message
        if message is None:
            message = self._message = self._start("msg", told)
        if message.kind != kind:
            self._end_part(message, told)
            message.kind = kind
            self._event(
                told,
                "response.content_part.added",
                **message.place,
                content_index=len(message.parts),
                part=message.part(),
            )
        message.pieces.append(text)
        self._chars += len(text)
        delta: dict[str, Any] = {"content_index": len(message.parts), "delta": text}
        if kind == "output_text":
            message.logprobs += logprobs
            self._chars += len(msgspec.json.encode(logprobs)) if logprobs else 0
            delta["logprobs"] = logprobs
        self._event(told, f"response.{kind}.delta", **message.place, **delta)

    def _tell_call(self, piece: dict[str, Any], told: list[bytes]) -> None:
        """A piece of a call: a new one begins under a new number, or another id under a number that is known."""
        function, given_id = function_of(piece), text_of(piece.get("id"))
        number = piece.get("index")
        number = number if type(number) is int else None
        known = self._calls.get(number)
        if known is None or (given_id and given_id != known.call_id):
            self._end_message(told)
            call_id, name = given_id or self._own_id("call"), text_of(function.get("name"))
            known = self._calls[number] = self._start("fc", told, call_id, name)
        if arguments := arguments_of(function):
            known.pieces.append(arguments)
            self._chars += len(arguments)
            kind = "response.function_call_arguments.delta"
            self._event(told, kind, **known.place, delta=arguments)

    def _create(self, told: list[bytes]) -> None:
        """One in the background is queued first, whatever happens."""
        status = "queued" if self.is_background else "in_progress"
        response = msgspec.Raw(self._response(status))
        self._event(told, "response.created", response=response)
        if self.is_background:
            self._event(told, "response.queued", response=response)

    def _begin(self, told: list[bytes]) -> None:
        if self._is_begun:
            return
        self._is_begun = True
        if self._events == 0:
            self._create(told)
        response = msgspec.Raw(self._response("in_progress"))
        self._event(told, "response.in_progress", response=response)

    def _start(
        self, prefix: str, told: list[bytes], call_id: str | None = None, name: str = ""
    ) -> Item:
        item = Item(self._own_id(prefix), len(self._items), call_id, name)
        self._items.append(item)
        self._chars += _ITEM_BYTES
        added = item.told()
        self._event(told, "response.output_item.added", output_index=item.index, item=added)
        return item

    def _own_id(self, prefix: str) -> str:
        """Of another turn it is another one."""
        return f"{prefix}_{self.request_id.replace('-', '')}_{len(self._items)}"

    def _finish(self, told: list[bytes]) -> None:
        """Nothing more comes; where it was cut off, it was in the last."""
        self._end_message(told, self._status)
        for item in self._items:
            if item.status == "in_progress":
                is_last = item is self._items[-1]
                self._end_call(item, self._status if is_last else "completed", told)

    def _end_message(self, told: list[bytes], status: ItemStatus = "completed") -> None:
        message, self._message = self._message, None
        if message is not None:
            self._end_part(message, told)
            self._end_item(message, status, told)

    def _end_part(self, message: Item, told: list[bytes]) -> None:
        if message.kind is None:
            return
        part, place = message.part(), {**message.place, "content_index": len(message.parts)}
        name = "refusal" if message.kind == "refusal" else "text"
        more = {name: part[name]}
        if name == "text":
            more["logprobs"] = part["logprobs"]
        self._event(told, f"response.{message.kind}.done", **place, **more)
        self._event(told, "response.content_part.done", **place, part=part)
        message.parts.append(part)
        message.kind, message.pieces, message.logprobs = None, [], []

    def _end_call(self, item: Item, status: ItemStatus, told: list[bytes]) -> None:
        kind, arguments = "response.function_call_arguments.done", "".join(item.pieces)
        self._event(told, kind, **item.place, name=item.name, arguments=arguments)
        self._end_item(item, status, told)

    def _end_item(self, item: Item, status: ItemStatus, told: list[bytes]) -> None:
        item.status = status
        kind = "response.output_item.done"
        self._event(told, kind, output_index=item.index, item=item.told())

    def _event(self, told: list[bytes], kind: str, **fields: Any) -> None:
        """A server-sent event under its name and number."""
        data = msgspec.json.encode({"type": kind, "sequence_number": self._events, **fields})
        self._events += 1
        told.append(b"event: %b\ndata: %b\n\n" % (kind.encode(), data))


def _error_told(refusal: Refusal) -> dict[str, Any]:
    """Under the few codes that a response may have, ours beside it."""
    code = "server_error"
    if refusal.status == HTTPStatus.TOO_MANY_REQUESTS:
        code = "rate_limit_exceeded"
    elif refusal.status < HTTPStatus.INTERNAL_SERVER_ERROR:
        code = "invalid_prompt"
    return {"code": code, "message": refusal.message, "gateway_code": refusal.code}


def _usage_told(usage: Usage | None) -> dict[str, Any] | None:
    """What is billed."""
    if usage is None:
        return None
    return {
        "input_tokens": usage.input_tokens,
        "input_tokens_details": {
            "cached_tokens": usage.cached_tokens,
            "cache_write_tokens": usage.cache_write_tokens,
        },
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.input_tokens + usage.output_tokens,
    }
