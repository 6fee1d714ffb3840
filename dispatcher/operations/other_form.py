"""Turns an answer of the other form into the one that was asked for: a whole one into events, events into a whole
one. Pure.

Servers answer so when streaming is switched off for a model, or always on (webbrain-one/webbrain#50,
decolua/9router#1396, mnfst/llm-gateway#2716).
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from dispatcher.upstream.event_splitter import (
    BYTE_ORDER_MARK,
    EventSplitter,
    UpstreamGarbage,
    data_of,
)
from dispatcher.upstream.json_reader import value_of

__all__ = ["DONE", "chunks_of", "completion_of", "event_of", "looks_like_events"]

DONE: Final = b"[DONE]"
_EVENTS_MAX: Final = 100_000
_TEXT: Final = "text_completion"
"""What text completions are called, whole or in chunks."""
_TEXT_OBJECT: Final = msgspec.json.encode(_TEXT)
_GROWING: Final = frozenset({"text", "logprobs"})
"""What goes on from one piece of a choice to the next, beside its delta."""
_FIELDS: Final = (b"data:", b"event:", b"id:", b"retry:", b":")
_OBJECTS: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_CHOICES: Final = msgspec.json.Decoder(list[dict[str, msgspec.Raw]])


def looks_like_events(body: bytes) -> bool:
    """Whether a body is a stream of server-sent events, whatever its media type says."""
    return body[:64].removeprefix(BYTE_ORDER_MARK).lstrip().startswith(_FIELDS)


def event_of(payload: bytes) -> bytes:
    """A server-sent event of one JSON value; its line ends, which JSON has between tokens only, become blanks."""
    if b"\n" in payload or b"\r" in payload:
        payload = payload.replace(b"\n", b" ").replace(b"\r", b" ")
    return b"data: " + payload + b"\n\n"


def chunks_of(body: bytes, *, with_usage: bool) -> bytes:
    """The events of a whole answer: its messages as deltas, then its usage where that was asked for."""
    fields = _OBJECTS.decode(body)
    usage = fields.pop("usage", None)
    if bytes(fields.get("object", b"")) != _TEXT_OBJECT:
        fields["object"] = msgspec.Raw(b'"chat.completion.chunk"')
    try:
        choices = _CHOICES.decode(fields.get("choices", msgspec.Raw(b"[]")))
    except ValueError:
        choices = []
    for choice in choices:
        if "message" in choice:
            choice["delta"] = _numbered(choice.pop("message"))
    events = event_of(msgspec.json.encode({**fields, "choices": choices}))
    if with_usage and usage is not None:
        events += event_of(msgspec.json.encode({**fields, "choices": [], "usage": usage}))
    return events


def completion_of(body: bytes) -> bytes:
    """The whole answer that a stream of events amounts to, or its error.

    Raises ``UpstreamGarbage`` where that is not plain: an event that is no JSON object, a stream without end.
    """
    splitter = EventSplitter()
    events = [*splitter.split(body), splitter.last()]
    if len(events) > _EVENTS_MAX:
        raise UpstreamGarbage(f"more than {_EVENTS_MAX} events")
    whole: dict[str, Any] = {}
    choices: dict[Any, dict[str, Any]] = {}
    is_done = False
    for event in events:
        data, name = data_of(event)
        if data == DONE or not data:
            is_done = is_done or data == DONE
            continue
        piece = value_of(data)
        if not isinstance(piece, dict):
            raise UpstreamGarbage("an event that is no JSON object")
        if piece.get("error") or name == b"error":
            return msgspec.json.encode(piece if piece.get("error") else {"error": piece})
        _join(whole, choices, piece)
    if not is_done and not any(choice.get("finish_reason") for choice in choices.values()):
        raise UpstreamGarbage("a stream without end")
    kind = _TEXT if whole.get("object") == _TEXT else "chat.completion"
    whole |= {"object": kind, "choices": [*choices.values()]}
    return msgspec.json.encode(whole)


def _numbered(message: msgspec.Raw) -> msgspec.Raw:
    """The message as a delta, whose tool calls say which is which."""
    if b'"tool_calls"' not in bytes(message):
        return message
    said = value_of(memoryview(message))
    calls = said.get("tool_calls") if isinstance(said, dict) else None
    if not isinstance(calls, list):
        return message
    numbered = [
        {"index": index, **call} if isinstance(call, dict) else call
        for index, call in enumerate(calls)
    ]
    return msgspec.Raw(msgspec.json.encode({**said, "tool_calls": numbered}))


def _join(whole: dict[str, Any], choices: dict[Any, dict[str, Any]], piece: dict[str, Any]) -> None:
    listed = piece.pop("choices", None)
    whole |= {name: value for name, value in piece.items() if value is not None}
    for choice in listed if isinstance(listed, list) else ():
        if not isinstance(choice, dict):
            continue
        index = choice.get("index")
        index = index if isinstance(index, int) else 0
        begun = {"text": ""} if "text" in choice else {"message": {"role": "assistant"}}
        joined = choices.setdefault(index, {"index": index, **begun})
        for name, value in choice.items():
            if name == "delta" and isinstance(value, dict):
                _join_said(joined.setdefault("message", {}), value)
            elif name in _GROWING:
                _join_said(joined, {name: value})
            elif name != "index" and value is not None:
                joined[name] = value
        joined.setdefault("finish_reason", None)


def _join_said(message: dict[str, Any], delta: dict[str, Any]) -> None:
    """Texts go on, lists grow, tool calls go on by their index, everything else is said once."""
    for name, value in delta.items():
        before = message.get(name)
        if name == "tool_calls" and isinstance(value, list):
            message[name] = _joined_calls(before if isinstance(before, list) else [], value)
        elif before is None or name == "role":
            message[name] = before if value is None else value
        elif isinstance(before, str) and isinstance(value, str):
            message[name] = before + value
        elif isinstance(before, list) and isinstance(value, list):
            before.extend(value)
        elif isinstance(before, dict) and isinstance(value, dict):
            _join_said(before, value)


def _joined_calls(calls: list[Any], pieces: list[Any]) -> list[Any]:
    for piece in pieces:
        if not isinstance(piece, dict):
            continue
        known = next((c for c in calls if c.get("index") == piece.get("index")), None)
        if known is None:
            calls.append(piece)
            continue
        said, more = known.setdefault("function", {}), piece.get("function")
        if isinstance(said, dict) and isinstance(more, dict):
            said["arguments"] = f"{said.get('arguments') or ''}{more.get('arguments') or ''}"
    return calls
