"""A backend of Anthropic's protocol for tests that misbehaves on request and logs every call as ``backend`` does.

`python -m tests.support.fakes.anthropic_backend --port P --log FILE --name ID`; it prints its URL when it is ready. Beside
its log stands `FILE.asked`: a JSON line with the headers and the body of each call, as they came.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import time
from pathlib import Path
from typing import Any, Final

import uvloop
from aiohttp import web

from tests.support.fakes.backend import (  # fmt: skip
    GATEWAY_KEY_PREFIX,
    HOST,
    LONGEST_HANG_S,
    MAX_BODY_BYTES,
    Spent,
    reset_of,
    until_stopped,
)
from tests.support.fakes.call_log import CallLogWriter, End, Start
from tests.support.fakes.messages import Asked, Cache, Refused, events, message, read

KEY: Final = "sk-ant-fake"
"""What it wants in `x-api-key`."""
_HEADERS: Final = ("x-api-key", "anthropic-version", "anthropic-beta", "authorization")
_ERRORS: Final = {
    400: "invalid_request_error",
    401: "authentication_error",
    429: "rate_limit_error",
    500: "api_error",
    529: "overloaded_error",
}


class FakeAnthropic:
    """The handlers of one backend."""

    def __init__(self, name: str, log: Path, latency_s: float) -> None:
        self._name = name
        self._log = CallLogWriter(log)
        self._asked = log.with_suffix(log.suffix + ".asked")
        self._latency_s = latency_s
        self._cache = Cache()
        self._calls = 0

    async def models(self, http: web.Request) -> web.Response:
        """Anthropic's list, for those who have the key."""
        if http.headers.get("x-api-key") != KEY:
            return _error(401, "invalid x-api-key")
        return web.json_response({"data": [{"type": "model", "id": "claude-fake"}], "has_more": False})  # fmt: skip

    async def messages(self, http: web.Request) -> web.StreamResponse:
        """One message, between its two log lines."""
        body = await http.read()
        headers = {name: http.headers[name] for name in _HEADERS if name in http.headers}
        if headers.get("x-api-key") != KEY:
            return _error(401, "invalid x-api-key")
        try:
            asked = read(body, headers, self._name, self._cache)
        except Refused as error:
            return _error(400, str(error))
        call_id, spent, client_closed = self._start(http, asked, body, headers), Spent(), True
        try:
            response = await self._answer(http, asked, call_id, spent)
            client_closed = False
            return response
        finally:
            self._end(call_id, spent, client_closed=client_closed)

    async def _answer(
        self, http: web.Request, asked: Asked, call_id: str, spent: Spent
    ) -> web.StreamResponse:
        if self._latency_s:
            await asyncio.sleep(self._latency_s)
        mode = asked.planned.mode
        if mode == "hang":
            await asyncio.sleep(LONGEST_HANG_S)
        if mode in ("500", "429", "529"):
            spent.status = int(mode)
            return _error(spent.status, f"told to answer {mode}")
        if mode == "early_error":
            spent.status = 529
            return await _send(http, [_line("error", _fault(529, "told to be full"))])
        spent.status, spent.prompt_tokens = 200, asked.planned.prompt_tokens
        if asked.chat.stream:
            return await _stream(http, asked, call_id, spent)
        if mode == "reset":
            return reset_of(http)
        spent.completion_tokens = asked.output_tokens
        return web.json_response(message(asked, call_id))

    def _start(self, http: web.Request, asked: Asked, body: bytes, headers: dict[str, str]) -> str:
        self._calls += 1
        call_id = f"{self._name}-{os.getpid()}-{self._calls}"
        request_id = http.headers.get("x-request-id")
        leaked = any(GATEWAY_KEY_PREFIX in value for value in headers.values())
        with self._asked.open("a") as file:
            line = {"request_id": request_id, "headers": headers, "body": json.loads(body)}
            file.write(json.dumps(line) + "\n")
        self._log.append(
            Start(call_id, _now_ms(), request_id, asked.chat.model, asked.chat.stream, leaked)
        )
        return call_id

    def _end(self, call_id: str, spent: Spent, *, client_closed: bool) -> None:
        text = hashlib.sha256(spent.text.encode()).hexdigest()
        tokens = (spent.prompt_tokens, spent.completion_tokens)
        self._log.append(End(call_id, _now_ms(), spent.status, *tokens, text, client_closed))


async def _stream(
    http: web.Request, asked: Asked, call_id: str, spent: Spent
) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(http)
    sent, pieces = 0, asked.planned.chunks
    for name, tokens, data in events(asked, call_id):
        is_text = name == "content_block_delta" and tokens
        if is_text and asked.planned.delay_ms:
            await asyncio.sleep(asked.planned.delay_ms / 1_000)
        if is_text and sent >= pieces // 2 and asked.planned.mode == "reset":
            return reset_of(http)
        if is_text and sent >= pieces // 2 and asked.planned.mode == "late_error":
            await response.write(_line("error", _fault(500, "it broke")))
            return response
        spent.completion_tokens += tokens
        sent += bool(is_text)
        await response.write(_line(name, {"type": name, **data}))
    return response


async def _send(http: web.Request, lines: list[bytes]) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(http)
    for line in lines:
        await response.write(line)
    return response


def _line(name: str, data: dict[str, Any]) -> bytes:
    return f"event: {name}\ndata: {json.dumps(data)}\n\n".encode()


def _fault(status: int, text: str) -> dict[str, Any]:
    return {"type": "error", "error": {"type": _ERRORS[status], "message": text}}


def _error(status: int, text: str) -> web.Response:
    return web.json_response(_fault(status, text), status=status)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


async def serve(port: int, log: Path, name: str, latency_s: float) -> None:
    """Serve until SIGTERM or SIGINT."""
    fake = FakeAnthropic(name, log, latency_s)
    app = web.Application(client_max_size=MAX_BODY_BYTES)
    app.router.add_post("/v1/messages", fake.messages)
    app.router.add_get("/v1/models", fake.models)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, HOST, port).start()
        print(f"http://{HOST}:{runner.addresses[0][1]}", flush=True)
        await until_stopped()
    finally:
        await runner.cleanup()


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
