"""The stores as a cluster of three primaries: one address, and the calls find who serves them."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import redis

from deploy.embedded.cluster import promote
from schemas.frames import Frame, Started
from schemas.runtime.ledger.client import ledger_store
from schemas.runtime.ledger.script import FAMILY, REVISION
from schemas.runtime.valkey.bus import Bus, Long, channel_of
from schemas.runtime.valkey.cold_store import open_cold_store
from schemas.runtime.valkey.opening import open_store
from schemas.runtime.valkey.slots import SLOTS, slot_of
from schemas.runtime.valkey.store import NodeView, Store, StoreError, StoreUnavailable
from schemas.runtime.valkey.subscription import Subscription
from tests.support.harness.ledger_server import LedgerServer
from tests.support.harness.store_cluster import StoreCluster, store_cluster

_KEYS = [f"{{{shard}}}|meta" for shard in range(24)]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StoreCluster]:
    folder: Path = tmp_path_factory.mktemp("cluster")
    with store_cluster(folder, replicas=1) as running:
        yield running


@asynccontextmanager
async def _started(store: Store) -> AsyncIterator[Store]:
    await store.start()
    try:
        yield store
    finally:
        await store.stop()


def _ask(server: LedgerServer, *command: str | int) -> Any:
    with redis.Redis(port=server.port, decode_responses=True) as client:
        return client.execute_command(*command)


def _server_of(cluster: StoreCluster, key: str) -> LedgerServer:
    slots = _ask(cluster.primaries[1], "CLUSTER", "SLOTS")
    port = next(at[1] for first, last, at, *_ in slots if first <= slot_of(key) <= last)
    return next(server for server in cluster.servers if server.port == port)


async def _answered(call: Callable[[], Any], within_s: float = 10) -> Any:
    """What the call answers once it does; until then it is unavailable and nothing else."""
    async with asyncio.timeout(within_s):
        while True:
            try:
                return await call()
            except StoreUnavailable:
                await asyncio.sleep(0.02)


def test_servers_that_ran_alone_are_one_cluster(cluster: StoreCluster) -> None:
    """Each knows who serves every slot, and says so under its own address."""
    for server in cluster.primaries:
        slots = _ask(server, "CLUSTER", "SLOTS")
        assert sum(last - first + 1 for first, last, *_ in slots) == SLOTS
        assert {entry[2][1] for entry in slots} == {each.port for each in cluster.primaries}


async def test_calls_go_to_whoever_serves_their_key(cluster: StoreCluster) -> None:
    """All at once; what has no key goes to anybody, or to all."""
    async with _started(open_store(cluster.url)) as store:
        await asyncio.gather(*(store.call("SET", key, key) for key in _KEYS))
        found = await asyncio.gather(*(store.call("GET", key) for key in _KEYS))
        stored = [_ask(server, "DBSIZE") for server in cluster.primaries]

        assert found == [key.encode() for key in _KEYS]
        assert min(stored) > 0
        assert await store.call("PING") == b"PONG"
        assert len(await store.call_each("INFO", "memory")) == 3
        with pytest.raises(StoreError, match="CROSSSLOT"):
            await store.call("DEL", "a", "b")


async def test_every_primary_has_the_functions_of_the_ledger(cluster: StoreCluster) -> None:
    """They are no data that a cluster would spread."""
    async with _started(ledger_store(cluster.url)):
        for server in cluster.primaries:
            [library] = _ask(server, "FUNCTION", "LIST")
            assert library["library_name"] == f"{FAMILY}{REVISION}"


async def test_a_slot_that_moves_is_followed_and_met_first(cluster: StoreCluster) -> None:
    """While it is on its way too; whoever has it next hears of it before its first command."""
    met: list[list[str]] = []

    async def meet(node: NodeView) -> None:
        met.append([key for key in _KEYS if node.serves(key)])

    key = next(key for key in _KEYS if _server_of(cluster, key) is cluster.primaries[0])
    slot, (source, target, _) = slot_of(key), cluster.primaries
    ids = {server.port: _ask(server, "CLUSTER", "MYID") for server in (source, target)}
    async with _started(open_store(cluster.url, meet)) as store:
        assert sorted(itertools.chain(*met)) == sorted(_KEYS)
        await store.call("DEL", key)
        _ask(target, "CLUSTER", "SETSLOT", slot, "IMPORTING", ids[source.port])
        _ask(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", ids[target.port])
        await store.call("SET", key, "over there")
        assert _ask(source, "DBSIZE") is not None
        for server in (target, source):
            _ask(server, "CLUSTER", "SETSLOT", slot, "NODE", ids[target.port])
        assert await store.call("GET", key) == b"over there"
        assert met[-1] == [key]
        assert len(met) == 4


async def test_the_bus_reaches_whoever_listens_on_another_server(cluster: StoreCluster) -> None:
    """A frame's stream and what counts it stand on servers of their own."""
    heard: list[bytes] = []
    bus = Bus(cluster.url)
    await bus.start()
    listening = Subscription(cluster.url, channel_of("ingress-0"), heard.append, lambda: None)
    await listening.start()
    requests = [f"request-{n}" for n in range(12)]
    for request_id in requests:
        long = Long("acme", 1, 1_000)
        frame = Frame(request_id, 1, 1, Started("echo", ()))
        assert await bus.send(frame, channel_of("ingress-0"), long=long)
        assert not await bus.send(frame, channel_of("ingress-0"))
    async with asyncio.timeout(5):
        while len(heard) < len(requests):  # noqa: ASYNC110  # the subscription announces nothing
            await asyncio.sleep(0.01)
    counted = await bus.store.call("HGET", "{counted}bytes", "o:acme")
    read = [await bus.read(request_id, "0-0") for request_id in requests]
    await asyncio.gather(listening.stop(), bus.stop())

    assert counted == b"12000"
    assert [frames[0].request_id for frames in read] == requests


async def test_a_scan_finds_the_keys_of_all_servers(cluster: StoreCluster) -> None:
    """Under the same address."""
    async with _started(open_store(cluster.url)) as store:
        await asyncio.gather(*(store.call("SET", key, 1) for key in _KEYS))
    async with open_cold_store(cluster.url) as cold:
        found = {name.decode() async for name in cold.scan_iter(match="*|meta")}
        async with cold.pipeline(transaction=False) as pipeline:
            for key in _KEYS:
                pipeline.get(key)
            values = await pipeline.execute()

    assert found == set(_KEYS)
    assert values == [b"1"] * len(_KEYS)


async def test_a_primary_that_dies_takes_nobody_along_and_its_replica_is_found(
    cluster: StoreCluster,
) -> None:
    """What was asked of it is unavailable, at once; the others never are."""
    met: list[int] = []

    async def meet(node: NodeView) -> None:
        met.append(sum(node.serves(key) for key in _KEYS))

    dying = cluster.primaries[0]
    lost = next(key for key in _KEYS if _server_of(cluster, key) is dying)
    others = [key for key in _KEYS if _server_of(cluster, key) is not dying]
    async with _started(open_store(cluster.url, meet)) as store:
        theirs = sum(_server_of(cluster, key) is dying for key in _KEYS)
        dying.kill()
        with pytest.raises(StoreUnavailable):
            await store.call("GET", lost)
        await asyncio.gather(*(store.call("GET", key) for key in others))
        assert not store.connected
        assert store.trouble.startswith(f"degraded: 127.0.0.1:{dying.port}")
        async with redis.asyncio.Redis(
            port=cluster.replicas[0].port, decode_responses=True
        ) as heir:
            await promote(heir)
        await _answered(lambda: store.call("SET", lost, "promoted"))

        assert len(await store.call_each("PING")) == 3
        assert met[3:] == [theirs]
        assert _server_of(cluster, lost) is cluster.replicas[0]
