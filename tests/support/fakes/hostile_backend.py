"""A backend that answers with exact bytes, by model name, and logs every call: aiohttp's server cannot send
what a broken one does.

`python -m tests.support.fakes.hostile_backend --port P --log FILE --name ID`; port 0 takes any. It prints its URL
as one line when it is ready. The log's tokens are those "really" spent: 11+7 where work was done.
`--list` prints the shapes and what is expected of each.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvloop

from tests.support.fakes.call_log import CallLogWriter, End, Start
from tests.support.fakes.shapes.conforming import CONFORMING
from tests.support.fakes.shapes.table import SHAPES
from tests.support.fakes.shapes.wire import (
    COMPLETION_TOKENS,
    PROMPT_TOKENS,
    Wire,
    completion,
    sized,
)

HOST = "127.0.0.1"
_HEAD_BYTES_MAX = 64 * 1024


@dataclass
class HostileBackend:
    """The server."""

    name: str
    log: CallLogWriter | None = None
    cookies: list[str] = field(default_factory=list)
    """Every Cookie header that ever arrived; there must be none."""
    wires: dict[str, Wire] = field(default_factory=dict)
    """Model to the last connection that asked for it."""
    _asked: Counter[str] = field(default_factory=Counter)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer until the connection ends."""
        wire = Wire(reader, writer)
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
                while await self._exchange(wire):
                    pass
        finally:
            with suppress(ConnectionError):
                writer.close()

    async def _exchange(self, wire: Wire) -> bool:
        request_line, headers, body = await _request(wire.reader)
        self.cookies += [headers["cookie"]] if "cookie" in headers else []
        if request_line.startswith("GET"):
            listed = [{"id": model, "object": "model"} for model in (*SHAPES, *CONFORMING)]
            await wire.send(sized(json.dumps({"object": "list", "data": listed}).encode()))
            return False
        model = str(body.get("model"))
        shape = SHAPES.get(model) or CONFORMING.get(model)
        wire.asked = body
        self._asked[model] += 1
        self.wires[model], wire.number, wire.keeps_open = wire, self._asked[model], False
        call_id = f"{self.name}-{os.getpid()}-{model}-{self._asked[model]}"
        self._started(call_id, model, headers, body)
        is_gone = True
        try:
            if shape is None:
                await wire.send(sized(completion()))
            else:
                await shape.answer(wire)
            is_gone = False
        finally:
            self._ended(call_id, works=shape is None or shape.booked != "nothing", is_gone=is_gone)
        return wire.keeps_open

    def _started(
        self, call_id: str, model: str, headers: dict[str, str], body: dict[str, Any]
    ) -> None:
        if self.log is not None:
            has_key = "tg_live_" in headers.get("authorization", "")
            request_id = headers.get("x-request-id")
            stream = bool(body.get("stream"))
            self.log.append(Start(call_id, _now_ms(), request_id, model, stream, has_key))

    def _ended(self, call_id: str, *, works: bool, is_gone: bool) -> None:
        if self.log is not None:
            spent = (PROMPT_TOKENS, COMPLETION_TOKENS) if works else (0, 0)
            digest = hashlib.sha256(b"").hexdigest()
            self.log.append(End(call_id, _now_ms(), 0, *spent, digest, is_gone))

    @asynccontextmanager
    async def running(self, port: int = 0) -> AsyncIterator[str]:
        """Serves; yields the base URL."""
        server = await asyncio.start_server(self.serve, HOST, port, limit=_HEAD_BYTES_MAX)
        try:
            yield f"http://{HOST}:{server.sockets[0].getsockname()[1]}/v1"
        finally:
            server.close()


async def _request(
    reader: asyncio.StreamReader,
) -> tuple[str, dict[str, str], dict[str, Any]]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    request_line, *lines = head.split("\r\n")
    pairs = (line.partition(":") for line in lines if ":" in line)
    headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return request_line, headers, json.loads(body) if body else {}


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


async def serve(port: int, log_path: Path, name: str) -> None:
    """Serve until SIGTERM or SIGINT."""
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    log = CallLogWriter(log_path)
    async with HostileBackend(name, log).running(port) as url:
        print(url, flush=True)
        await stopped.wait()
    log.close()


def main() -> None:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--log", type=Path)
    parser.add_argument("--name", default="hostile")
    parser.add_argument("--latency-ms", type=float, default=0.0)
    parser.add_argument("--list", action="store_true")
    options = parser.parse_args()
    if options.list:
        for model, shape in (SHAPES | CONFORMING).items():
            form = "stream" if shape.stream else "whole"
            statuses = "/".join("torn" if s == 0 else str(s) for s in shape.statuses)
            print(f"{model:32} {shape.family:8} {form:7} {statuses:12} {shape.booked}")
        return
    uvloop.run(serve(options.port, options.log, options.name))


if __name__ == "__main__":
    main()
