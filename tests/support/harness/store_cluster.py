"""A cluster of Valkeys for tests: primaries that share the slots, and replicas if wanted."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deploy.embedded.cluster import ClusterNode, cluster_settings, form_cluster
from tests.support.harness.ledger_server import LedgerServer, free_ports

_FASTER = "cluster-node-timeout 2000\n"
"""A test does not wait as long for a failover as servers should that share a machine with all the rest."""


class StoreCluster:
    """Servers on folders of their own below one; each can be killed, wiped and started again."""

    def __init__(self, folder: Path, primaries: int = 3, replicas: int = 0) -> None:
        names = [f"primary-{n}" for n in range(primaries)]
        names += [f"replica-{n}" for n in range(replicas)]
        servers = [LedgerServer(folder / name) for name in names]
        self.primaries, self.replicas = servers[:primaries], servers[primaries:]
        self.move()

    @property
    def url(self) -> str:
        """Where clients begin; they find the others there."""
        return "redis+cluster://" + ",".join(f"127.0.0.1:{each.port}" for each in self.primaries)

    @property
    def servers(self) -> list[LedgerServer]:
        """All of them, primaries first."""
        return [*self.primaries, *self.replicas]

    def start(self) -> None:
        """Start those that do not run; return once they are one cluster.

        It runs an event loop of its own, so a test that is a coroutine calls it in a thread.
        """
        for server in self.servers:
            if server.process is None:
                server.start()
        asyncio.run(form_cluster(_nodes(self.primaries), _nodes(self.replicas)))

    def move(self) -> None:
        """Give each of them, while none runs, ports that it has never had."""
        ports = iter(free_ports(2 * len(self.servers)))
        for server in self.servers:
            server.port, server.cluster_port = next(ports), next(ports)
            server.more_settings = cluster_settings(server.cluster_port) + _FASTER

    def kill(self) -> None:
        """End all at once, as a crash would."""
        for server in self.servers:
            server.kill()


@contextmanager
def store_cluster(folder: Path, primaries: int = 3, replicas: int = 0) -> Iterator[StoreCluster]:
    """A cluster that runs until the block is left."""
    cluster = StoreCluster(folder, primaries, replicas)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.kill()


def _nodes(servers: list[LedgerServer]) -> list[ClusterNode]:
    return [ClusterNode(server.port, server.cluster_port) for server in servers]
