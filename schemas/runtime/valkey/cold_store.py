"""A store for what nobody waits for on a connection: scans and status, on redis-py.

The hot path has a connection of its own (``store.py``), which carries thousands of callers at once. Here one
caller asks one thing after another, and what counts is the whole command set, iterators and pipelines.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final, TypeAlias

import redis.asyncio as redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from schemas.ledger.calls import Call
from schemas.runtime.valkey.node import CONNECT_DEADLINE_S, REPLY_DEADLINE_S
from schemas.runtime.valkey.store import StoreError, StoreUnavailable

ColdStore: TypeAlias = "redis.Redis"

RESP2: Final = 2


@asynccontextmanager
async def open_cold_store(url: str) -> AsyncIterator[ColdStore]:
    """A client of the store at this address; closed at the end, whatever happened.

    Its failures are those of the hot path: ``StoreUnavailable`` without an answer in time, ``StoreError`` for a
    refusal. Nothing is tried again.
    """
    store = redis.Redis.from_url(
        url,
        protocol=RESP2,
        single_connection_client=True,
        socket_connect_timeout=CONNECT_DEADLINE_S,
        socket_timeout=REPLY_DEADLINE_S,
        retry=Retry(NoBackoff(), 0),
    )
    with _told():
        try:
            yield store
        finally:
            await store.aclose()


async def ask(store: ColdStore, call: Call[Any]) -> Any:
    """The answer of one of the ledger's functions; raises as ``Call.decode`` does."""
    return call.decode(await store.execute_command(*call.command))  # type: ignore[no-untyped-call]


@contextmanager
def _told() -> Iterator[None]:
    """Failures of redis-py in our own terms."""
    try:
        yield
    except ResponseError as error:
        raise StoreError(str(error)) from error
    except (RedisError, OSError) as error:
        raise StoreUnavailable(repr(error)) from error
