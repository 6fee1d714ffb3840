"""Batches over a folder, a log and a ledger in memory: asked for with OpenAI's own SDK, and run by hand."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import httpx2
import openai

from ingress.batches.figures import BatchFigures
from ingress.batches.pace import Pace
from ingress.batches.run import BatchRun
from ingress.batches.store import BatchStore
from schemas.events import RequestAccepted
from schemas.frames import Terminal, Usage
from tests.support.configuration import SECRET
from tests.support.gateway import Gateway

URL: Final = "/v1/chat/completions"
DONE: Final = Terminal(200, body=b'{\n "id": "c"\n}', usage=Usage(5, 7, 12_000, estimated=False))
Worker = Callable[[RequestAccepted], Sequence[Terminal]]


def batch_gateway(folder: Path, worker: Worker = lambda _: (DONE,)) -> Gateway:
    """A gateway that keeps files in a folder, and what answers its requests."""
    gateway = Gateway(files_url=f"file://{folder}")
    gateway.log.worker = worker
    return gateway


def sdk_client(gateway: Gateway) -> openai.AsyncOpenAI:
    """OpenAI's own client of it."""
    http = openai.DefaultAsyncHttpxClient(transport=httpx2.ASGITransport(gateway.app))
    return openai.AsyncOpenAI(
        base_url="http://gateway/v1", api_key=SECRET, http_client=http, max_retries=0
    )


def input_line(custom_id: str, /, **more: Any) -> dict[str, Any]:
    """A line of an input."""
    body = {"model": "echo", "messages": [{"role": "user", "content": custom_id}]}
    return {"custom_id": custom_id, "method": "POST", "url": URL, "body": body, **more}


async def begin_batch(
    gateway: Gateway, lines: Sequence[dict[str, Any] | str], url: str = URL
) -> Any:
    """Leave a file of lines, and ask for its batch."""
    texts = (line if isinstance(line, str) else json.dumps(line) for line in lines)
    client, content = sdk_client(gateway), "\n".join(texts).encode()
    file = await client.files.create(file=("in.jsonl", content), purpose="batch")
    return await client.batches.create(
        input_file_id=file.id,
        endpoint=url,  # type: ignore[arg-type]
        completion_window="24h",
        metadata={"by": "a test"},
    )


def batch_store(gateway: Gateway) -> BatchStore:
    """Where its batches stand."""
    shelf = gateway.public.files
    assert shelf is not None
    return BatchStore(shelf.store)


async def own_batch(gateway: Gateway, batch: str, lines_max: int = 4) -> BatchRun:
    """The run of whoever owns the batch from now on."""
    store = batch_store(gateway)
    owned = await store.own("acme", batch)
    assert owned is not None
    public = gateway.public
    clock = public.gatekeeper.clock
    figures = BatchFigures(gateway.metrics, clock)
    return BatchRun(*owned, store, public.starter, clock, lines_max, Pace(1e9), figures)


async def results_of(gateway: Gateway, name: str | None) -> list[dict[str, Any]]:
    """What stands in a file of results; nothing where there is none."""
    if name is None:
        return []
    content = (await sdk_client(gateway).files.content(name)).content
    return [json.loads(line) for line in content.splitlines()]


async def kill_when(run: BatchRun, when: Callable[[], bool]) -> None:
    """Run until then, and not a moment longer."""
    task = asyncio.create_task(run.run())
    async with asyncio.timeout(5):
        while not when():  # noqa: ASYNC110  # at whatever step it is just then
            await asyncio.sleep(0)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
