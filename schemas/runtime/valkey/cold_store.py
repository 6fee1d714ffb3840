"""A store for what nobody waits for on a connection: scans and status, on redis-py.

The hot path has a connection of its own (``store.py``), which carries thousands of callers at once. Here one
caller asks one thing after another, and what counts is the whole command set, iterators and pipelines.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeAlias, cast

import redis.asyncio as redis
from redis.asyncio.cluster import ClusterNode, RedisCluster
from redis.exceptions import RedisClusterException, RedisError, ResponseError

from schemas.ledger.calls import Call
from schemas.runtime.valkey.address import Kind, StoreAddress, read_address
from schemas.runtime.valkey.opening import finder
from schemas.runtime.valkey.slots import key_of
from schemas.runtime.valkey.store import StoreError, StoreUnavailable
from schemas.runtime.valkey.wire import redis_py_options

ColdStore: TypeAlias = "redis.Redis"
"""Of a cluster it is redis-py's client of one, which has the same methods."""


@asynccontextmanager
async def open_cold_store(url: str) -> AsyncIterator[ColdStore]:
    """A client of the store at this address; closed at the end, whatever happened.

    Its failures are those of the hot path: ``StoreUnavailable`` without an answer in time, ``StoreError`` for a
    refusal. Nothing is tried again.
    """
    store = await _client(read_address(url))
    with _told():
        try:
            yield store
        finally:
            await store.aclose()


async def ask(store: ColdStore, call: Call[Any]) -> Any:
    """The answer of one of the ledger's functions; raises as ``Call.decode`` does."""
    client, more = cast("Any", store), {}
    if isinstance(client, RedisCluster) and (key := key_of(call.command)) is not None:
        # redis-py would ask a server first where the keys of a function stand.
        await client.initialize()
        more["target_nodes"] = client.get_node_from_key(str(key))
    return call.decode(await client.execute_command(*call.command, **more))


async def _client(address: StoreAddress) -> ColdStore:
    options = redis_py_options(address)
    if address.kind is Kind.CLUSTER:
        nodes = [ClusterNode(each.host, each.port) for each in address.servers]
        cluster = RedisCluster(startup_nodes=nodes, require_full_coverage=False, **options)
        return cast("redis.Redis", cluster)
    at = await finder(address)()
    options |= {"db": address.database, "single_connection_client": True}
    return redis.Redis(host=at.host, port=at.port, **options)


@contextmanager
def _told() -> Iterator[None]:
    """Failures of redis-py in our own terms."""
    try:
        yield
    except ResponseError as error:
        raise StoreError(str(error)) from error
    except (RedisError, RedisClusterException, OSError) as error:
        raise StoreUnavailable(repr(error)) from error
