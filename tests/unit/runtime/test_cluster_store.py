"""A cluster as one store, against servers that send commands elsewhere, lie and hang on command."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from schemas.runtime.valkey import cluster as cluster_module
from schemas.runtime.valkey.cluster import ClusterStore
from schemas.runtime.valkey.opening import open_store
from schemas.runtime.valkey.slots import SLOTS, key_of, slot_of
from schemas.runtime.valkey.store import NodeView, OnConnect, StoreUnavailable
from tests.support.waiting import until
from tests.unit.runtime.resp_cluster import RespCluster, resp_cluster


@asynccontextmanager
async def _connected(
    cluster: RespCluster, on_connect: OnConnect | None = None
) -> AsyncIterator[ClusterStore]:
    store = open_store(cluster.url, on_connect)
    assert isinstance(store, ClusterStore)
    await store.start()
    try:
        yield store
    finally:
        await store.stop()


@pytest.fixture
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Readings may follow each other closely."""
    monkeypatch.setattr(cluster_module, "_READ_EVERY_S", 0.01)


async def _hook(node: NodeView) -> None:
    await node.send("HOOK")


def test_a_command_goes_where_its_key_says() -> None:
    """The slots of the keys are those that the specification of clusters gives as examples."""
    assert [slot_of(key) for key in ("123456789", b"123456789", "foo{bar}x", "bar")] == [
        12_739,
        12_739,
        5_061,
        5_061,
    ]
    assert slot_of("foo{}{bar}") == slot_of(b"foo{}{bar}") != slot_of("bar")
    assert slot_of("foo{bar") < SLOTS
    assert key_of(("FCALL", "f", 2, "a", "b")) == "a"
    assert key_of(("EVAL", "return 1", "0")) is None
    assert key_of(("GET", b"k")) == b"k"
    assert key_of(("TIME",)) is None
    assert key_of(("PUBLISH", "channel", "x")) is None


async def test_each_server_gets_what_it_serves() -> None:
    """In batches of its own."""
    async with resp_cluster() as cluster, _connected(cluster) as store:
        keys = [cluster.key_of(number, nth) for number in range(3) for nth in range(20)]
        replies = await asyncio.gather(*(store.call("GET", key) for key in keys))

    assert replies == [b"from %d" % number for number in range(3) for _ in range(20)]
    assert [cluster.heard(number) for number in range(3)] == [[b"GET"] * 20] * 3


async def test_what_has_moved_is_asked_again_where_it_is_now() -> None:
    """Who awaits the answer notices nothing."""
    async with resp_cluster() as cluster, _connected(cluster) as store:
        key = cluster.key_of(0)
        cluster.move(key, to=1)

        assert await store.call("GET", key) == b"from 1"
        assert await store.call("GET", key) == b"from 1"
        assert len(cluster.read_at_s) == 2


@pytest.mark.usefixtures("_quick")
async def test_servers_that_send_each_other_the_same_command_get_it_five_times_more() -> None:
    """Then it is unavailable."""
    async with resp_cluster() as cluster, _connected(cluster) as store:
        key = cluster.key_of(0)
        cluster.move(key, to=1, is_told=False)
        with pytest.raises(StoreUnavailable, match="MOVED"):
            await asyncio.wait_for(store.call("GET", key), 5)

        assert cluster.heard(0) == [b"GET"] * 6


@pytest.mark.parametrize("told", ["MOVED x", "ASK 1 nowhere", "MOVED 99999 127.0.0.1:1"])
async def test_a_server_that_says_where_without_sense_is_left(told: str) -> None:
    """And found again."""
    async with resp_cluster() as cluster, _connected(cluster) as store:
        key, answer = cluster.key_of(0), cluster.servers[0].answer
        cluster.servers[0].answer = lambda _: f"-{told}\r\n".encode()
        with pytest.raises(StoreUnavailable, match=told):
            await store.call("GET", key)
        cluster.servers[0].answer = answer
        await until(lambda: store.connected and store.connections == 4)

        assert await store.call("GET", key) == b"from 0"


async def test_what_is_on_its_way_is_asked_for_at_its_end_with_leave() -> None:
    """Directly before, so that nobody else's command uses the leave up."""
    async with resp_cluster() as cluster, _connected(cluster) as store:
        key, own = cluster.key_of(0), cluster.key_of(1)
        cluster.asking[slot_of(key)] = 1
        replies = await asyncio.gather(*(store.call("GET", each) for each in (key, own, key)))

        assert replies == [b"asked 1", b"from 1", b"asked 1"]
        assert cluster.heard(1) == [b"GET", b"ASKING", b"GET", b"ASKING", b"GET"]
        assert len(cluster.read_at_s) == 1


async def test_a_function_waits_for_the_end_of_its_slots_way() -> None:
    """Half of its keys would be missing at either end, and a missing balance reads as nothing spent."""
    async with resp_cluster() as cluster, _connected(cluster) as store:
        key = cluster.key_of(0)
        cluster.asking[slot_of(key)] = 1
        with pytest.raises(StoreUnavailable, match="ASK"):
            await store.call("FCALL", "tg1_admit", 1, key)
        assert cluster.heard(1) == []
        cluster.asking.clear()
        cluster.move(key, to=1)

        assert await store.call("FCALL", "tg1_admit", 1, key) == b"from 1"


async def test_a_server_that_has_no_slot_yet_is_met_before_it_gets_one() -> None:
    """Who asks meanwhile has to ask again."""
    async with resp_cluster(4) as cluster:
        cluster.owners = [min(owner, 2) for owner in cluster.owners]
        cluster.told = list(cluster.owners)
        async with _connected(cluster, _hook) as store:
            key = cluster.key_of(0)
            cluster.asking[slot_of(key)] = 3
            with pytest.raises(StoreUnavailable):
                await store.call("GET", key)
            await until(lambda: cluster.heard(3) == [b"HOOK"])
            await asyncio.sleep(0.01)

            assert await store.call("GET", key) == b"asked 3"


async def test_a_thousand_that_find_out_at_once_are_one_reading() -> None:
    """And the next comes a second later at the earliest, whatever happens."""
    async with resp_cluster() as cluster, _connected(cluster) as store:
        keys = [cluster.key_of(0, nth) for nth in range(20)]
        for key in keys:
            cluster.move(key, to=2)
        replies = await asyncio.gather(*(store.call("GET", keys[n % 20]) for n in range(1_000)))
        for key in keys:
            cluster.move(key, to=1, is_told=False)
        calls = [asyncio.ensure_future(store.call("GET", key)) for key in keys]
        await until(lambda: len(cluster.read_at_s) > 2)
        for call in calls:
            call.cancel()

    assert set(replies) == {b"from 2"}
    gaps = [b - a for a, b in zip(cluster.read_at_s[1:], cluster.read_at_s[2:], strict=False)]
    assert gaps
    assert min(gaps) >= 1.0


async def test_a_server_gets_nothing_of_a_slot_for_which_it_was_not_met() -> None:
    """On a connection of its own, since what runs there may be a transaction."""
    served: list[list[bool]] = []
    refuses = asyncio.Event()

    async def meet(node: NodeView) -> None:
        served.append([node.serves(key) for key in keys])
        await node.send("HOOK")
        if refuses.is_set():
            raise StoreUnavailable("not now")

    async with resp_cluster(2) as cluster:
        keys = [cluster.key_of(0), cluster.key_of(1)]
        async with _connected(cluster, meet) as store:
            refuses.set()
            cluster.move(keys[0], to=1)
            with pytest.raises(StoreUnavailable, match="nobody"):
                await store.call("GET", keys[0])
            assert await store.call("GET", keys[1]) == b"from 1"
            refuses.clear()
            await asyncio.sleep(0)
            await until(lambda: len(served) == 4)
            await until(lambda: store.connected)
            assert await store.call("GET", keys[0]) == b"from 1"
            again = cluster.servers[1]
            again.cut()
            await until(lambda: len(served) == 5)

    assert sorted(served[:2]) == [[False, True], [True, False]]
    assert served[2:] == [[True, False], [True, False], [True, True]]


async def test_one_that_hangs_delays_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its calls fail at once while it lets nobody in; what the others serve works."""
    monkeypatch.setattr(cluster_module, "CONNECT_DEADLINE_S", 0.2)
    async with resp_cluster() as cluster:
        cluster.silent.add(1)
        async with _connected(cluster, _hook) as store:
            assert await store.call("GET", cluster.key_of(2)) == b"from 2"
            with pytest.raises(StoreUnavailable, match="not connected"):
                await store.call("GET", cluster.key_of(1))
            assert await store.call_each("PING") == [b"OK", b"OK"]
            assert not store.connected
            assert store.trouble == f"degraded: 127.0.0.1:{cluster.servers[1].port}: not connected"
            cluster.silent.clear()
            cluster.servers[1].cut()
            await until(lambda: store.connected)

            assert await store.call("GET", cluster.key_of(1)) == b"from 1"


@pytest.mark.usefixtures("_quick")
async def test_one_that_is_lost_is_replaced_by_who_took_its_slots() -> None:
    """Those of the lost one are unavailable until then, and no others."""
    async with resp_cluster() as cluster, _connected(cluster, _hook) as store:
        lost, kept = cluster.key_of(0), cluster.key_of(1)
        await cluster.servers[0].go_away()
        await until(lambda: not store.connected)
        with pytest.raises(StoreUnavailable):
            await store.call("GET", lost)
        assert await store.call("GET", kept) == b"from 1"
        cluster.owners = [owner or 2 for owner in cluster.owners]
        cluster.told = list(cluster.owners)
        await until(lambda: store.connected)

        assert await store.call("GET", lost) == b"from 2"
        assert store.connections == 3


async def test_a_cluster_that_is_not_there_fails_the_start() -> None:
    """Nothing runs without its store."""
    async with resp_cluster() as cluster:
        pass
    with pytest.raises(StoreUnavailable, match="who serves what"):
        await open_store(cluster.url).start()
