"""Answers that are right: what clients of the last years' versions are tried with. By the name of the model, ``fake-<name>``.

Each answers in the form that was asked for, for ``n`` choices; work is 11+7 tokens.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any, Final

from tests.support.fakes.shapes.wire import DONE, STREAM, USAGE, Shape, Wire, head, named, sized

WORDS: Final = ("hello ", "there")
CITY: Final = {"city": "Zürich"}
_HEAD: Final = {"id": "chatcmpl-1", "created": 1_700_000_000, "model": "fake"}
_CALL: Final = {
    "index": 0,
    "id": "call_1",
    "type": "function",
    "function": {"name": "weather", "arguments": json.dumps(CITY, ensure_ascii=False)},
}


def _choices(
    wire: Wire, reason: str | None, name: str, content: dict[str, Any]
) -> list[dict[str, Any]]:
    count = wire.asked.get("n") or 1
    return [
        {"index": at, name: content, "finish_reason": reason, "logprobs": None}
        for at in range(count)
    ]


def _event(wire: Wire, delta: dict[str, Any], reason: str | None = None) -> bytes:
    choices = _choices(wire, reason, "delta", delta)
    chunk = {**_HEAD, "object": "chat.completion.chunk", "choices": choices}
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


def _usage_event(wire: Wire) -> bytes:
    if not (wire.asked.get("stream_options") or {}).get("include_usage"):
        return b""
    chunk = {**_HEAD, "object": "chat.completion.chunk", "choices": [], "usage": json.loads(USAGE)}
    return b"data: " + json.dumps(chunk).encode() + b"\n\n"


async def _answer(
    wire: Wire,
    deltas: tuple[dict[str, Any], ...],
    message: dict[str, Any],
    reason: str,
    last: bytes = DONE,
) -> None:
    if wire.asked.get("stream"):
        pieces = [_event(wire, delta) for delta in deltas]
        await wire.send(
            head(b"200 OK", STREAM), *pieces, _event(wire, {}, reason), _usage_event(wire), last
        )
        return
    choices = _choices(wire, reason, "message", {"role": "assistant", "refusal": None, **message})
    body = {**_HEAD, "object": "chat.completion", "choices": choices, "usage": json.loads(USAGE)}
    await wire.send(sized(json.dumps(body).encode()))


async def plain(wire: Wire, last: bytes = DONE) -> None:
    """Two words."""
    deltas = ({"role": "assistant", "content": ""}, *({"content": word} for word in WORDS))
    await _answer(wire, deltas, {"content": "".join(WORDS)}, "stop", last)


async def _without_done(wire: Wire) -> None:
    """A stream that ends after its usage."""
    await plain(wire, b"")


async def _tools(wire: Wire) -> None:
    """A call of a tool; in a stream its arguments come in two pieces."""
    arguments = _CALL["function"]["arguments"]  # type: ignore[index]
    first = {**_CALL, "function": {"name": "weather", "arguments": arguments[:5]}}
    rest = {"index": 0, "function": {"arguments": arguments[5:]}}
    deltas = ({"role": "assistant", "content": None, "tool_calls": [first]}, {"tool_calls": [rest]})
    await _answer(wire, deltas, {"content": None, "tool_calls": [_CALL]}, "tool_calls")


async def _reasoning(wire: Wire) -> None:
    """Thoughts beside the text."""
    deltas = ({"role": "assistant", "reasoning_content": "hm"}, {"content": "".join(WORDS)})
    message = {"content": "".join(WORDS), "reasoning_content": "hm"}
    await _answer(wire, deltas, message, "stop")


def _refuses(
    status: bytes, error: dict[str, Any], *headers: bytes
) -> Callable[[Wire], Awaitable[None]]:
    async def answer(wire: Wire) -> None:
        await wire.send(sized(json.dumps({"error": error}).encode(), status, *headers))

    return answer


def _first_time(refuse: Callable[[Wire], Awaitable[None]]) -> Callable[[Wire], Awaitable[None]]:
    """Every other call fails."""

    async def answer(wire: Wire) -> None:
        await (refuse(wire) if wire.number % 2 else plain(wire))

    return answer


_TOO_LONG = {
    "message": "This model's maximum context length is 4096 tokens. However, your messages resulted in 9000 tokens.",
    "type": "invalid_request_error",
    "param": "messages",
    "code": "context_length_exceeded",
}
_HOT = {
    "message": "temperature must be at most 2",
    "type": "invalid_request_error",
    "param": "temperature",
    "code": "invalid_value",
}
_TIRED = {
    "message": "slow down please",
    "type": "requests",
    "param": None,
    "code": "rate_limit_exceeded",
}
_BROKEN = {"message": "it broke", "type": "server_error", "param": None, "code": None}
_tired = _refuses(b"429 Too Many Requests", _TIRED, b"Retry-After: 1")
_broken = _refuses(b"500 Internal Server Error", _BROKEN)


async def _breaks_off(wire: Wire) -> None:
    """An error in the middle of a stream."""
    error = b"data: " + json.dumps({"error": _BROKEN}).encode() + b"\n\n"
    await wire.send(
        head(b"200 OK", STREAM), _event(wire, {"role": "assistant", "content": "hello "}), error
    )


async def _slow(wire: Wire) -> None:
    """A word every 100 ms, for ten seconds."""
    words = [_event(wire, {"content": "word "}) for _ in range(100)]
    await wire.send(
        head(b"200 OK", STREAM),
        *words,
        _event(wire, {}, "stop"),
        _usage_event(wire),
        DONE,
        pause_s=0.1,
    )


def _shape(name: str, answer: Callable[[Wire], Awaitable[None]], *statuses: int) -> Shape:
    return Shape(name, "bytes", answer, statuses or (200,), "exact" if not statuses else "nothing")


CONFORMING: Final[dict[str, Shape]] = named(
    (
        _shape("plain", plain),
        _shape("without-done", _without_done),
        _shape("tools", _tools),
        _shape("reasoning", _reasoning),
        _shape("too-long", _refuses(b"400 Bad Request", _TOO_LONG), 400),
        _shape("hot", _refuses(b"400 Bad Request", _HOT), 400),
        _shape("tired", _tired, 429),
        _shape("tired-once", _first_time(_tired), 200, 429),
        _shape("broken-once", _first_time(_broken), 200, 502),
        _shape("breaks-off", _breaks_off, 200),
        _shape("slow", _slow),
    )
)
