"""A cluster of the embedded Valkey is made, and is one again after whatever happened to it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from tests.support.harness.ledger_server import LedgerServer
from tests.support.harness.store_cluster import StoreCluster, store_cluster

KEYS = [f"{{{partition}}}|n" for partition in range(8)]


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[StoreCluster]:
    """Three primaries, a replica each."""
    with store_cluster(tmp_path, replicas=3) as running:
        yield running


def _open(cluster: StoreCluster) -> redis.RedisCluster:
    return redis.RedisCluster(host="127.0.0.1", port=cluster.primaries[0].port)


def _role(server: LedgerServer) -> str:
    with redis.Redis(port=server.port, decode_responses=True) as client:
        return str(client.execute_command("ROLE")[0])


def test_every_key_is_there_again_on_other_ports_and_after_a_folder_is_gone(
    cluster: StoreCluster,
) -> None:
    """Servers know each other by id; the replica of the one that lost everything takes its place."""
    with _open(cluster) as client:
        for key in KEYS:
            client.set(key, key)
        for server in cluster.primaries:
            with redis.Redis(port=server.port) as primary:
                assert primary.dbsize() > 0
                assert primary.execute_command("WAIT", 1, 5_000) == 1
    cluster.kill()
    cluster.move()
    cluster.primaries[1].wipe()

    cluster.start()

    with _open(cluster) as client:
        assert [client.get(key) for key in KEYS] == [key.encode() for key in KEYS]
    assert sorted(map(_role, cluster.servers)) == ["master"] * 3 + ["slave"] * 3
    assert _role(cluster.primaries[1]) == "slave"
