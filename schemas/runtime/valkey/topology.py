"""Who serves which slots of a cluster, asked through redis-py of any server that is known."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Collection
from typing import Any, Final

from redis.asyncio.cluster import ClusterNode, RedisCluster
from redis.exceptions import RedisClusterException, RedisError

from schemas.runtime.valkey.address import Endpoint, StoreAddress
from schemas.runtime.valkey.store import StoreUnavailable
from schemas.runtime.valkey.wire import CONNECT_DEADLINE_S, redis_py_options

_ONE_WITHIN_S: Final = 1.0
"""One server that hangs must not use up the time of all."""

Topology = dict[Endpoint, frozenset[int]]
"""Each primary with its slots."""


async def read_topology(address: StoreAddress, known: Collection[Endpoint] = ()) -> Topology:
    """The primaries now. Raises ``StoreUnavailable`` when no server tells them in time."""
    options = redis_py_options(address)
    options |= {"socket_connect_timeout": _ONE_WITHIN_S, "socket_timeout": _ONE_WITHIN_S}
    servers = dict.fromkeys((*address.servers, *known))
    cluster = RedisCluster(
        startup_nodes=[ClusterNode(each.host, each.port) for each in servers],
        require_full_coverage=False,
        **options,
    )
    try:
        async with asyncio.timeout(CONNECT_DEADLINE_S):
            # Not of the whole client, which would also read what each command of the server means.
            await cluster.nodes_manager.initialize()
        if not cluster.nodes_manager.slots_cache:
            raise StoreUnavailable("no server of the cluster serves anything")
        return _primaries(cluster.nodes_manager.slots_cache)
    except (RedisError, RedisClusterException, OSError, TimeoutError) as error:
        raise StoreUnavailable(f"no server tells who serves what: {error!r}") from error
    finally:
        await cluster.nodes_manager.aclose()
        await cluster.nodes_manager.aclose("startup_nodes")


def _primaries(slots: dict[int, list[Any]]) -> Topology:
    served: dict[Endpoint, set[int]] = defaultdict(set)
    for slot, nodes in slots.items():
        served[Endpoint(str(nodes[0].host), int(nodes[0].port))].add(slot)
    return {endpoint: frozenset(mine) for endpoint, mine in served.items()}
