"""The faults that chaos scenarios make are what they are called: seen from the store's data."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import redis
from redis.exceptions import MovedError

from tests.support.harness.ledger_server import LedgerServer
from tests.support.harness.store_cluster import StoreCluster, store_cluster
from tests.support.harness.store_faults import StoreFaults, orgs_everywhere
from tests.support.harness.store_servers import OfTest

SHARDS = 8


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StoreCluster]:
    """Three primaries, a replica each."""
    folder: Path = tmp_path_factory.mktemp("cluster")
    with store_cluster(folder, replicas=3) as running:
        yield running


def _open(port: int) -> redis.Redis:
    return redis.Redis(port=port, decode_responses=True)


async def test_a_server_alone_is_emptied_cut_rolled_back_and_lost(server: LedgerServer) -> None:
    """A cut of one byte costs the last write, one of the half more than that and not all."""
    faults = StoreFaults(OfTest([server]))
    with _open(server.port) as client:
        client.set("early", 1)
        copy = await faults.keep_copy()
        for number in range(50):
            client.set(f"n{number:02}", number)
        assert await faults.primaries() == ["data"]

        assert await faults.cut_log("data", drop_bytes=1) == 1
        assert client.exists("n48", "n49") == 1
        await faults.cut_log("data")
        assert 1 < client.dbsize() < 49
        await faults.roll_back(copy)
        assert client.keys() == ["early"]
        await faults.flush()
        assert client.dbsize() == 0
        client.set("late", 1)
        await faults.lose_files()
        assert client.dbsize() == 0


async def test_a_promoted_replica_has_what_it_heard_and_no_more(cluster: StoreCluster) -> None:
    """The primary that was killed comes back as a copy of it, without what only it knew."""
    servers = OfTest(cluster.servers)
    faults = StoreFaults(servers)
    pair = await faults.pair_of(shard=2)
    with _open(servers.nodes[pair.primary].port) as client:
        client.set("{2}|a", 1)
        client.execute_command("WAIT", 1, 5_000)
        async with faults.behind(pair):
            client.set("{2}|b", 1)

            async with servers.away(pair.primary):
                await faults.promote(pair)
        await faults.until_served()

        assert await faults.primary_of(2) == pair.replica
    for name in (pair.replica, pair.primary):
        with _open(servers.nodes[name].port) as client:
            assert client.keys("{2}*") == ["{2}|a"]


async def test_what_a_zombie_primary_still_answers_is_lost(cluster: StoreCluster) -> None:
    """A command that reached it while it stood still, it answers or sends away: as it hears of the others."""
    servers = OfTest(cluster.servers)
    faults = StoreFaults(servers)
    pair = await faults.pair_of(shard=3)
    with redis.Redis(port=servers.nodes[pair.primary].port, protocol=2) as client:
        connection = client.connection_pool.get_connection()
        async with faults.zombie(pair):
            connection.send_command("SET", "{3}|late", "1")
        with suppress(MovedError):
            assert connection.read_response() == b"OK"

    assert await faults.primary_of(3) == pair.replica
    with _open(servers.nodes[pair.replica].port) as client:
        assert client.exists("{3}|late") == 0


async def test_a_server_of_a_cluster_is_replaced_by_an_empty_one(cluster: StoreCluster) -> None:
    """Its copy has taken its place, and it is now the copy."""
    faults = StoreFaults(OfTest(cluster.servers))
    pair = await faults.pair_of(shard=0)

    await faults.replace(pair.primary)

    assert await faults.primary_of(0) == pair.replica
    assert len(await faults.primaries()) == 3


async def test_organizations_stand_in_every_shard_and_every_primary_holds_some(
    cluster: StoreCluster,
) -> None:
    """The scenarios lose what they must not only where somebody is."""
    faults = StoreFaults(OfTest(cluster.servers))
    orgs = orgs_everywhere(SHARDS, each=2)

    assert [len(names) for names in orgs.values()] == [2] * SHARDS
    holders = {await faults.primary_of(shard) for shard in orgs}
    assert holders == set(await faults.primaries())
