"""An OpenAI-compatible backend for tests that misbehaves on request and logs every call.

`python -m tests.support.fakes.backend --port P --log FILE --name ID [--latency-ms N]`; port 0 takes any. It
prints its URL as one line when it is ready. Invariant: a call is logged as started before anything
else happens to it, and as ended before its last byte leaves.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import os
import signal
import socket
import struct
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import uvloop
from aiohttp import web

from tests.support.fakes import embeddings, text_completions
from tests.support.fakes.behaviour import MODELS, ChatRequest, Plan, parse, plan
from tests.support.fakes.call_log import CallLogWriter, End, Start

HOST = "127.0.0.1"
MAX_BODY_BYTES = 8 << 20
LONGEST_HANG_S = 900.0
GATEWAY_KEY_PREFIX = "tg_live_"
RESET_ON_CLOSE = struct.pack("ii", 1, 0)
"""SO_LINGER with no time: closing sends a RST instead of a FIN."""


@dataclass
class Spent:
    """What a call has cost so far; it is logged as it stands when the call ends."""

    status: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    text: str = ""


class FakeBackend:
    """The handlers of one backend."""

    def __init__(self, name: str, log: CallLogWriter, latency_s: float) -> None:
        self._name = name
        self._log = log
        self._latency_s = latency_s
        self._calls = 0

    async def models(self, _: web.Request) -> web.Response:
        """The list of models; each is also a mode."""
        listed = [
            {"id": model, "object": "model", "created": 0, "owned_by": self._name}
            for model in MODELS
        ]
        return _json(200, {"object": "list", "data": listed})

    async def chat(self, http: web.Request) -> web.StreamResponse:
        """One chat completion, between its two log lines."""
        try:
            request = parse(await http.read())
            planned = plan(request, self._name)
        except msgspec.DecodeError as error:
            return _json(400, _error(str(error), "invalid_request_error"))
        call_id = self._start(http, request)
        spent = Spent()
        client_closed = True
        try:
            response = await self._answer(http, request, planned, call_id, spent)
            client_closed = False
            return response
        finally:
            # The client is gone when the handler was cancelled or a write failed.
            self._end(call_id, spent, client_closed=client_closed)

    async def embed(self, http: web.Request) -> web.StreamResponse:
        """One embeddings call, between its two log lines."""
        try:
            request = embeddings.parse(await http.read())
        except msgspec.DecodeError as error:
            return _json(400, _error(str(error), "invalid_request_error"))
        call_id = self._start(http, request)
        spent = Spent(status=200, prompt_tokens=request.prompt_tokens)
        self._end(call_id, spent, client_closed=False)
        return _json(200, embeddings.answer(request))

    async def complete(self, http: web.Request) -> web.StreamResponse:
        """One text completion, between its two log lines."""
        try:
            request = text_completions.parse(await http.read())
        except msgspec.DecodeError as error:
            return _json(400, _error(str(error), "invalid_request_error"))
        call_id = self._start(http, request)
        answer = text_completions.Answer(request, f"cmpl-{call_id}", _now_ms() // 1_000)
        usage = (request.prompt_tokens, answer.completion_tokens)
        self._end(call_id, Spent(200, *usage, answer.text), client_closed=False)
        if not request.stream:
            return _json(200, answer.whole())
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(http)
        for chunk in answer.chunks():
            await response.write(b"data: " + msgspec.json.encode(chunk) + b"\n\n")
        await response.write(b"data: [DONE]\n\n")
        return response

    def _start(
        self,
        http: web.Request,
        request: ChatRequest | embeddings.Request | text_completions.Request,
    ) -> str:
        self._calls += 1
        call_id = f"{self._name}-{os.getpid()}-{self._calls}"
        self._log.append(
            Start(
                call_id=call_id,
                at_ms=_now_ms(),
                request_id=http.headers.get("x-request-id"),
                model=request.model,
                stream=request.stream,
                has_gateway_key=GATEWAY_KEY_PREFIX in http.headers.get("Authorization", ""),
            )
        )
        return call_id

    def _end(self, call_id: str, spent: Spent, *, client_closed: bool) -> None:
        self._log.append(
            End(
                call_id=call_id,
                at_ms=_now_ms(),
                status=spent.status,
                prompt_tokens=spent.prompt_tokens,
                completion_tokens=spent.completion_tokens,
                text_sha256=hashlib.sha256(spent.text.encode()).hexdigest(),
                client_closed=client_closed,
            )
        )

    async def _answer(
        self, http: web.Request, request: ChatRequest, planned: Plan, call_id: str, spent: Spent
    ) -> web.StreamResponse:
        if self._latency_s:
            await asyncio.sleep(self._latency_s)
        if planned.mode == "hang":
            await asyncio.sleep(LONGEST_HANG_S)
        if planned.mode in ("500", "429"):
            spent.status = int(planned.mode)
            return _refusal(spent.status)
        spent.prompt_tokens = planned.prompt_tokens
        head = {"id": f"chatcmpl-{call_id}", "created": _now_ms() // 1_000, "model": request.model}
        if request.stream:
            return await _stream(http, request, planned, head, spent)
        if planned.delay_ms:
            await asyncio.sleep(planned.delay_ms / 1_000)
        if planned.mode == "reset":
            return reset_of(http)
        spent.status = 200
        spent.completion_tokens = planned.completion_tokens
        spent.text = " ".join(planned.words)
        return _json(200, _completion(head, planned, spent.text))


def create_app(backend: FakeBackend) -> web.Application:
    """The server's routes."""
    app = web.Application(client_max_size=MAX_BODY_BYTES)
    app.router.add_post("/v1/chat/completions", backend.chat)
    app.router.add_post("/v1/completions", backend.complete)
    app.router.add_post("/v1/embeddings", backend.embed)
    app.router.add_get("/v1/models", backend.models)
    return app


async def _stream(
    http: web.Request, request: ChatRequest, planned: Plan, head: dict[str, Any], spent: Spent
) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(http)
    spent.status = 200
    with_usage = bool(request.stream_options and request.stream_options.include_usage)
    extra = {"usage": None} if with_usage else {}

    async def send(choices: list[dict[str, Any]], **more: Any) -> None:
        chunk = {**head, "object": "chat.completion.chunk", "choices": choices, **extra, **more}
        await response.write(b"data: " + msgspec.json.encode(chunk) + b"\n\n")

    for index in range(planned.chunks):
        if planned.delay_ms:
            await asyncio.sleep(planned.delay_ms / 1_000)
        if planned.mode == "reset" and index >= planned.chunks // 2:
            return reset_of(http)
        words = planned.chunk_words(index)
        text = "".join(f" {word}" for word in words)
        text = text if spent.text else text.lstrip()
        # Counted before it is sent: a token that was made is spent, whether or not it arrives.
        spent.completion_tokens += len(words) * planned.choices
        spent.text += text
        await send(_choices(planned, {"delta": {"role": "assistant", "content": text}}, None))
    for piece in _call_pieces(planned, str(head["id"])):
        await send(_choices(planned, {"delta": {"tool_calls": [{"index": 0, **piece}]}}, None))
    await send(_choices(planned, {"delta": {}}, planned.finish_reason))
    if with_usage and planned.reported_usage is not None:
        await send([], usage=planned.reported_usage)
    await response.write(b"data: [DONE]\n\n")
    return response


def _completion(head: dict[str, Any], planned: Plan, text: str) -> dict[str, Any]:
    said: dict[str, Any] = {"role": "assistant", "content": text, "refusal": None}
    if planned.call is not None:
        function = {"name": planned.call.name, "arguments": planned.call.arguments}
        said["tool_calls"] = [
            {"id": f"call-{head['id']}", "type": "function", "function": function}
        ]
    choices = _choices(planned, {"message": said}, planned.finish_reason)
    body = {**head, "object": "chat.completion", "choices": choices}
    if planned.reported_usage is not None:
        body["usage"] = planned.reported_usage
    return body


def _call_pieces(planned: Plan, answer_id: str) -> list[dict[str, Any]]:
    """The call as it is streamed: its name first, its arguments in two pieces."""
    if planned.call is None:
        return []
    name, arguments = planned.call.name, planned.call.arguments
    half = len(arguments) // 2
    begun = {
        "id": f"call-{answer_id}",
        "type": "function",
        "function": {"name": name, "arguments": ""},
    }
    more = [{"function": {"arguments": part}} for part in (arguments[:half], arguments[half:])]
    return [begun, *more]


def _choices(
    planned: Plan, content: dict[str, Any], finish_reason: str | None
) -> list[dict[str, Any]]:
    ending = {"finish_reason": finish_reason, "logprobs": None}
    return [{"index": index, **content, **ending} for index in range(planned.choices)]


def _refusal(status: int) -> web.Response:
    kind = "rate_limit_exceeded" if status == 429 else "server_error"
    headers = {"Retry-After": "1"} if status == 429 else {}
    return _json(status, _error(f"told to answer {status}", kind), headers)


def reset_of(http: web.Request) -> web.Response:
    """Break the connection as a crashing server does; the response goes nowhere."""
    assert http.transport is not None, "the connection was open when the call arrived"
    connection = http.transport.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
    http.transport.abort()
    return web.Response()


def _error(message: str, kind: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": None, "code": None}}


def _json(status: int, body: object, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(
        body=msgspec.json.encode(body),
        status=status,
        headers=headers,
        content_type="application/json",
    )


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


async def serve(port: int, log_path: Path, name: str, latency_s: float) -> None:
    """Serve until SIGTERM or SIGINT."""
    log = CallLogWriter(log_path)
    app = create_app(FakeBackend(name, log, latency_s))
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, HOST, port).start()
        print(f"http://{HOST}:{runner.addresses[0][1]}/v1", flush=True)
        await until_stopped()
    finally:
        await runner.cleanup()
        log.close()


async def until_stopped() -> None:
    """Wait for SIGTERM or SIGINT."""
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    await stopped.wait()


def main() -> None:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--log", type=Path, required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--latency-ms", type=float, default=0.0)
    options = parser.parse_args()
    uvloop.run(serve(options.port, options.log, options.name, options.latency_ms / 1_000))


if __name__ == "__main__":
    main()
