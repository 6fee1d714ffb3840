"""Makes the store that an address names."""

from __future__ import annotations

import asyncio
import random

from redis.asyncio import Redis
from redis.asyncio.sentinel import Sentinel
from redis.exceptions import RedisError

from schemas.runtime.valkey.address import Endpoint, Kind, StoreAddress, read_address
from schemas.runtime.valkey.cluster import ClusterStore
from schemas.runtime.valkey.node import Find, NodeConnection
from schemas.runtime.valkey.store import NodeView, OnConnect, Store, StoreUnavailable
from schemas.runtime.valkey.topology import read_topology
from schemas.runtime.valkey.wire import redis_py_options, sentinel_options


def open_store(url: str, on_connect: OnConnect | None = None) -> Store:
    """The store at this address; nothing connects before its ``start``. Raises ``ValueError`` for no address."""
    address = read_address(url)
    match address.kind:
        case Kind.CLUSTER:
            return ClusterStore(address, on_connect)
        case Kind.SENTINEL:
            find = finder(address)

            async def names_another(endpoint: Endpoint, _: NodeView) -> bool:
                return await find() != endpoint

            return NodeConnection(address, find, _on_primary(on_connect), has_moved=names_another)
        case Kind.ALONE:

            async def reaches_another(_: Endpoint, node: NodeView) -> bool:
                held = _run_id_in((await node.send("INFO", "server")).decode())
                return await _run_id_at(address) not in {held, ""}

            return NodeConnection(address, finder(address), on_connect, has_moved=reaches_another)


def finder(address: StoreAddress) -> Find:
    """Says which server to connect to now: the one, the primary, or any of a cluster's."""

    async def find() -> Endpoint:
        if address.kind is Kind.ALONE:
            return address.servers[0]
        ask = _ask_cluster if address.kind is Kind.CLUSTER else _ask_sentinels
        asking = asyncio.ensure_future(ask(address))
        # Who waits may be cancelled, but not the asking: redis-py may lose that and its connection.
        asking.add_done_callback(lambda done: done.cancelled() or done.exception())
        return await asyncio.shield(asking)

    return find


async def _run_id_at(address: StoreAddress) -> str:
    """The process that a new connection reaches: names and proxies lead elsewhere while old connections stay."""
    server = address.servers[0]
    client = Redis(host=server.host, port=server.port, **redis_py_options(address))
    try:
        return str((await client.info("server")).get("run_id", ""))
    except (RedisError, OSError) as error:
        raise StoreUnavailable(repr(error)) from error
    finally:
        await client.aclose()


def _run_id_in(info: str) -> str:
    return next((x[7:].strip() for x in info.splitlines() if x.startswith("run_id:")), "")


async def _ask_cluster(address: StoreAddress) -> Endpoint:
    """Any primary."""
    return random.choice(sorted(await read_topology(address), key=str))  # noqa: S311  # no secret


async def _ask_sentinels(address: StoreAddress) -> Endpoint:
    """Where the primary is, as the first Sentinel says that knows one. Raises ``StoreUnavailable``."""
    servers = [(each.host, each.port) for each in address.servers]
    sentinel = Sentinel(servers, sentinel_kwargs=sentinel_options(address))  # type: ignore[no-untyped-call]
    try:
        host, port = await sentinel.discover_master(address.primary)
    except (RedisError, OSError) as error:
        raise StoreUnavailable(repr(error)) from error
    finally:
        for client in sentinel.sentinels:
            await client.aclose()
    return Endpoint(str(host), int(port))


def _on_primary(on_connect: OnConnect | None) -> OnConnect:
    """First asks whether it is the primary: Sentinels may be late, and a replica would answer too."""

    async def meet(node: NodeView) -> None:
        role, *_ = await node.send("ROLE")
        if role != b"master":
            raise StoreUnavailable("the server is no primary any more")
        if on_connect is not None:
            await on_connect(node)

    return meet
