"""What a call of the ledger costs a process: our connection beside redis-py, on a real Valkey.

``python -m tests.load.store_clients`` prints calls per second and CPU of the calling process per call. Each of the
callers awaits its own call before it makes the next, as requests do. redis-py is measured twice: as it is used (a pool,
a connection per caller), and at its best (a pipeline of all callers, one round trip for each round of them, which code
whose callers come and go one by one cannot write). The call is the ledger's cheapest, so that the client is what is
seen. Turns alternate; the median of them stands.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import redis.asyncio
import uvloop

from schemas.ledger import calls, documents
from schemas.ledger.calls import Call
from schemas.runtime.ledger.client import LedgerClient, ledger_store
from tests.support.harness.ledger_server import LedgerServer
from tests.support.one_shard import ONE_SHARD, SHARD

CALLERS = (1, 32)
TURNS = 5
TURN_S = 2.0
_CALL: Call[Any] = calls.renew(
    SHARD, documents.Renew(org="bench", req="nobody", fence=1, lease_ms=10_000, streamed=False)
)

Round = Callable[[], Awaitable[object]]
"""One call of one caller, or of all of them where they go together."""


@asynccontextmanager
async def _own(url: str, _callers: int) -> AsyncIterator[tuple[Round, int]]:
    store = ledger_store(url)
    await store.start()
    await LedgerClient(store, ONE_SHARD).init(SHARD)

    async def one() -> None:
        await store.call(*_CALL.command)

    try:
        yield one, 1
    finally:
        await store.stop()


@asynccontextmanager
async def _pooled(url: str, callers: int) -> AsyncIterator[tuple[Round, int]]:
    async with redis.asyncio.Redis.from_url(url, max_connections=callers) as client:
        untyped: Any = client

        async def one() -> None:
            await untyped.execute_command(*_CALL.command)

        yield one, 1


@asynccontextmanager
async def _pipelined(url: str, callers: int) -> AsyncIterator[tuple[Round, int]]:
    async with redis.asyncio.Redis.from_url(url) as client:

        async def all_at_once() -> None:
            pipeline: Any = client.pipeline(transaction=False)
            for _ in range(callers):
                pipeline.execute_command(*_CALL.command)
            await pipeline.execute()

        yield all_at_once, callers


CLIENTS = {"ours": _own, "redis-py, pool": _pooled, "redis-py, pipeline": _pipelined}


async def _turn(url: str, client: str, callers: int) -> tuple[float, float]:
    """Calls per second, and microseconds of CPU per call."""
    async with CLIENTS[client](url, callers) as (one, calls_in_one):
        await one()
        done, ends_at_s = 0, time.perf_counter() + TURN_S

        async def caller() -> None:
            nonlocal done
            while time.perf_counter() < ends_at_s:
                await one()
                done += calls_in_one

        started_s, cpu_s = time.perf_counter(), time.process_time()
        async with asyncio.TaskGroup() as group:
            for _ in range(callers // calls_in_one):
                group.create_task(caller())
        spent_s = time.perf_counter() - started_s
        return done / spent_s, (time.process_time() - cpu_s) / done * 1e6


@contextmanager
def _server() -> Iterator[LedgerServer]:
    with tempfile.TemporaryDirectory() as folder:
        server = LedgerServer(Path(folder) / "ledger")
        server.start()
        try:
            yield server
        finally:
            server.kill()


async def compare(url: str, turns: int) -> None:
    """Prints a line for each client and number of callers."""
    print(f"{'client':<20}{'callers':>8}{'calls/s':>10}{'CPU us/call':>13}")
    for callers in CALLERS:
        found: dict[str, list[tuple[float, float]]] = {client: [] for client in CLIENTS}
        for _ in range(turns):
            for client, turn in found.items():
                turn.append(await _turn(url, client, callers))
        for client, turn in found.items():
            rate, cpu_us = (statistics.median(column) for column in zip(*turn, strict=True))
            print(f"{client:<20}{callers:>8}{rate:>10.0f}{cpu_us:>13.1f}")


def main() -> None:
    """The command line."""
    options = argparse.ArgumentParser(description="our store connection beside redis-py")
    options.add_argument("--turns", type=int, default=TURNS)
    turns = options.parse_args().turns
    with _server() as server:
        uvloop.run(compare(server.url, turns))


if __name__ == "__main__":
    main()
