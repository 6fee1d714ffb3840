"""The stores as a cluster of three primaries: one address, and the calls find who serves them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from deploy.embedded.cluster_plan import SLOTS
from tests.support.harness.store_cluster import StoreCluster, store_cluster


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StoreCluster]:
    folder: Path = tmp_path_factory.mktemp("cluster")
    with store_cluster(folder) as running:
        yield running


def test_servers_that_ran_alone_are_one_cluster(cluster: StoreCluster) -> None:
    """Each knows who serves every slot, and says so under its own address."""
    for server in cluster.primaries:
        with redis.Redis(port=server.port) as client:
            slots = client.execute_command("CLUSTER", "SLOTS")
        assert sum(last - first + 1 for first, last, *_ in slots) == SLOTS
        assert {entry[2][1] for entry in slots} == {each.port for each in cluster.primaries}
