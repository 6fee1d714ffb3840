"""A backend that answers at once, so that what is measured before it is the gateway's own time.

`python -m deploy.bench.backend [--ports N]` listens on so many free loopback ports and prints their addresses as one
JSON list. A stream has as many events as `max_tokens` says, each one token in a write of its own. The model's name
may ask for a pause: `bench-100ms` answers after 100 ms. Counts and answers depend on the request alone. `GET /v1/calls`
says how many calls of each model it answered: who judges limits asks it, and not the gateway.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import signal
import sys
from collections import Counter
from functools import lru_cache
from typing import Final, cast

import httptools
import msgspec
import uvloop

from deploy.embedded.ports import HOST

DEFAULT_TOKENS: Final = 20
MOST_TOKENS: Final = 100_000
_BYTES_A_TOKEN: Final = 16
_PAUSE: Final = re.compile(r"-(\d{1,5})ms$")
_END: Final = b"0\r\n\r\n"
_STREAM: Final = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
)
_WORDS: Final = "Hello from the backend that answers at once."


class _Options(msgspec.Struct, frozen=True):
    include_usage: bool = False


class Asked(msgspec.Struct, frozen=True):
    """The fields of a chat completion request that matter here."""

    model: str = "bench"
    stream: bool = False
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    stream_options: _Options | None = None

    @property
    def tokens(self) -> int:
        """How many tokens it is answered with."""
        return min(self.max_completion_tokens or self.max_tokens or DEFAULT_TOKENS, MOST_TOKENS)

    @property
    def has_usage(self) -> bool:
        """Whether its stream ends with what it cost."""
        return self.stream_options is not None and self.stream_options.include_usage


_ASKED: Final = msgspec.json.Decoder(Asked)


@lru_cache(maxsize=64)
def pause_s(model: str) -> float:
    """The pause that a model's name asks for."""
    found = _PAUSE.search(model)
    return int(found[1]) / 1_000 if found else 0.0


def usage(body_bytes: int, tokens: int) -> dict[str, int]:
    """What an exchange cost: far below any bound of its input, and exactly its output."""
    spent = 1 + body_bytes // _BYTES_A_TOKEN
    return {"prompt_tokens": spent, "completion_tokens": tokens, "total_tokens": spent + tokens}


@lru_cache(maxsize=256)
def whole(model: str, body_bytes: int, tokens: int) -> bytes:
    """A whole JSON answer, head included."""
    told = min(tokens, len(_WORDS.split()))
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": _WORDS, "refusal": None},
        "finish_reason": "stop",
        "logprobs": None,
    }
    body = _event_fields("chat.completion", model, [choice]) | {"usage": usage(body_bytes, told)}
    return _json(body)


@lru_cache(maxsize=64)
def _token(model: str) -> bytes:
    choice = {"index": 0, "delta": {"role": "assistant", "content": "tok "}, "finish_reason": None}
    return _event(_event_fields("chat.completion.chunk", model, [choice]))


def _last(model: str, body_bytes: int, tokens: int, *, has_usage: bool) -> bytes:
    choice = {"index": 0, "delta": {}, "finish_reason": "stop"}
    last = _event(_event_fields("chat.completion.chunk", model, [choice]))
    if has_usage:
        fields = _event_fields("chat.completion.chunk", model, [])
        last += _event(fields | {"usage": usage(body_bytes, tokens)})
    return last + _chunk(b"data: [DONE]\n\n") + _END


def _event_fields(kind: str, model: str, choices: list[dict[str, object]]) -> dict[str, object]:
    head = {"id": "chatcmpl-bench", "object": kind, "created": 1_700_000_000, "model": model}
    return head | {"choices": choices}


def _event(fields: dict[str, object]) -> bytes:
    return _chunk(b"data: " + json.dumps(fields).encode() + b"\n\n")


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _json(body: object, status: bytes = b"200 OK") -> bytes:
    data = json.dumps(body).encode()
    head = b"HTTP/1.1 %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
    return head % (status, len(data)) + data


CALLS: Final[Counter[str]] = Counter()
"""Calls of this process that were understood, by model."""
_MODELS: Final = _json({"object": "list", "data": [{"id": "bench", "object": "model"}]})
_ERROR: Final = {
    "message": "no chat completion request",
    "type": "invalid_request_error",
    "param": None,
    "code": "invalid_request",
}
_REFUSAL: Final = _json({"error": _ERROR}, b"400 Bad Request")


class Server(asyncio.Protocol):
    """One connection; requests are answered in their order."""

    def __init__(self) -> None:
        self._parser = httptools.HttpRequestParser(self)
        self._pieces: list[bytes] = []
        self._transport: asyncio.Transport | None = None
        self._streaming: asyncio.Task[None] | None = None
        self._path = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # A cast, because uvloop's transports do not derive from asyncio's classes.
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self._transport = None
        if self._streaming is not None:
            self._streaming.cancel()

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            if self._transport is not None:
                self._transport.abort()

    def on_message_begin(self) -> None:
        """Called by the parser at the start of a request."""
        self._pieces = []

    def on_url(self, url: bytes) -> None:
        """Called by the parser with the path."""
        self._path = url

    def on_body(self, body: bytes) -> None:
        """Called by the parser with a piece of the body."""
        self._pieces.append(body)

    def on_message_complete(self) -> None:
        """Called by the parser at the end of a request."""
        if self._parser.get_method() == b"GET":
            self._write(_json(CALLS) if self._path.endswith(b"/calls") else _MODELS)
            return
        body = b"".join(self._pieces)
        self._pieces = []
        try:
            asked = _ASKED.decode(body)
        except msgspec.DecodeError:
            self._write(_REFUSAL)
            return
        CALLS[asked.model] += 1
        if asked.stream or pause_s(asked.model):
            self._streaming = asyncio.create_task(self._later(asked, len(body)))
        else:
            self._write(whole(asked.model, len(body), asked.tokens))

    async def _later(self, asked: Asked, body_bytes: int) -> None:
        await asyncio.sleep(pause_s(asked.model))
        if not asked.stream:
            self._write(whole(asked.model, body_bytes, asked.tokens))
            return
        self._write(_STREAM)
        token = _token(asked.model)
        for _ in range(asked.tokens):
            self._write(token)
            # As a model would: every token leaves by itself.
            await asyncio.sleep(0)
        self._write(_last(asked.model, body_bytes, asked.tokens, has_usage=asked.has_usage))

    def _write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)


async def serve(ports: int) -> None:
    """Serve until SIGTERM or SIGINT."""
    loop, stopped = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    servers = [await loop.create_server(Server, HOST, 0, backlog=4_096) for _ in range(ports)]
    bound = [server.sockets[0].getsockname()[1] for server in servers]
    sys.stdout.buffer.write(
        json.dumps([f"http://{HOST}:{port}/v1" for port in bound]).encode() + b"\n"
    )
    sys.stdout.buffer.flush()
    await stopped.wait()


def main() -> None:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ports", type=int, default=1)
    uvloop.run(serve(parser.parse_args().ports))


if __name__ == "__main__":
    main()
