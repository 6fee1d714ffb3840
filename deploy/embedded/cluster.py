"""Makes one cluster of store servers that run: new ones, and such that were one before.

Servers keep what they know of each other in a file (`nodes.conf`). Ports may have changed since then, so all are
introduced to each other every time: whoever is met under an id that is known only gets its new address.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, Final

import redis.asyncio as redis
from redis.exceptions import RedisError, ResponseError

from deploy.embedded.cluster_plan import SLOTS, View, plan, read_view
from deploy.embedded.ports import HOST
from deploy.embedded.problem import StackError

NODE_TIMEOUT_MS: Final = 5_000
"""After that long without an answer its neighbours give a server up, and a replica takes over."""
_FORM_DEADLINE_S: Final = 30.0
_ANSWER_DEADLINE_S: Final = 5.0
_LOOK_S: Final = 0.05
_LOOKS_PER_GREETING: Final = 40
"""A greeting may get lost."""


@dataclass(frozen=True, slots=True)
class ClusterNode:
    """A server of a cluster: its port for clients, and its port for the others of the cluster."""

    port: int
    cluster_port: int


def cluster_settings(cluster_port: int) -> str:
    """What the configuration of a server of a cluster says beside that of a server alone.

    The slots of one that is away are away, and no others.
    """
    return f"""\
cluster-enabled yes
cluster-port {cluster_port}
cluster-announce-ip {HOST}
cluster-node-timeout {NODE_TIMEOUT_MS}
cluster-require-full-coverage no
cluster-allow-replica-migration no
repl-diskless-sync-delay 0
"""


def _plain_url(port: int) -> str:
    return f"redis://{HOST}:{port}"


async def form_cluster(
    primaries: Sequence[ClusterNode],
    replicas: Sequence[ClusterNode] = (),
    url_of: Callable[[int], str] = _plain_url,
) -> None:
    """Return once every server knows all others, all slots are served and replicas are connected.

    New replica n copies primary n, modulo their number; what servers became since stays. `url_of` says
    where a port is asked. Raises `StackError`.
    """
    nodes = (*primaries, *replicas)
    async with AsyncExitStack() as opened:
        clients = [_client(url_of(node.port)) for node in nodes]
        for client in clients:
            opened.push_async_callback(client.aclose)
        try:
            async with asyncio.timeout(_FORM_DEADLINE_S):
                await _divide(clients, len(primaries))
                await _introduce(clients, nodes)
                await _copy(clients, len(primaries))
        except (RedisError, OSError, TimeoutError) as error:
            raise StackError(
                "the stores do not become one cluster",
                str(error) or f"they did not agree within {_FORM_DEADLINE_S:.0f} s",
                "see their logs in the state folder, or start with a new --state-dir",
            ) from error


async def _divide(clients: Sequence[redis.Redis], primaries: int) -> None:
    """Forget who is gone, and give slots to those that are new."""
    views = await _views(clients)
    todo = plan(views, primaries)
    for who in todo.take_over:
        await promote(clients[who])
    for who, stranger in todo.forget:
        await _ask(clients[who], "CLUSTER", "FORGET", stranger)
    for who, ranges in todo.serve:
        for first, last in ranges:
            await _ask(clients[who], "CLUSTER", "ADDSLOTSRANGE", first, last)
        if views[who].is_new:
            # Two primaries of one epoch would first have to settle which of them changes it.
            await _ask(clients[who], "CLUSTER", "SET-CONFIG-EPOCH", who + 1)


async def promote(client: redis.Redis) -> None:
    """A replica takes the place of its primary; one that its neighbours elected meanwhile has it already.

    Raises `RedisError`. It waits until the replica says so; the caller has a deadline.
    """
    while await _copies_another(client):
        try:
            await _ask(client, "CLUSTER", "FAILOVER", "TAKEOVER")
        except ResponseError:
            if await _copies_another(client):
                raise
        await asyncio.sleep(_LOOK_S)


async def _copies_another(client: redis.Redis) -> bool:
    (view,) = await _views([client])
    return view.myself.primary is not None


async def _introduce(clients: Sequence[redis.Redis], nodes: Sequence[ClusterNode]) -> None:
    """Everybody greets everybody until all have met."""
    ids = [view.myself.id for view in await _views(clients)]
    looks = 0
    while not looks or not all(view.has_met(ids) for view in await _views(clients)):
        if looks % _LOOKS_PER_GREETING == 0:
            for client in clients:
                for node in nodes:
                    await _ask(client, "CLUSTER", "MEET", HOST, node.port, node.cluster_port)
        looks += 1
        await asyncio.sleep(_LOOK_S)


async def _copy(clients: Sequence[redis.Redis], primaries: int) -> None:
    for who, primary in plan(await _views(clients), primaries).copy:
        await _ask(clients[who], "CLUSTER", "REPLICATE", primary)
    for client in clients:
        while not await _is_settled(client):  # noqa: ASYNC110  # the caller has a deadline
            await asyncio.sleep(_LOOK_S)


async def _is_settled(client: redis.Redis) -> bool:
    about = await _ask(client, "CLUSTER", "INFO")
    if "cluster_state:ok" not in about or f"cluster_slots_ok:{SLOTS}" not in about:
        return False
    # The reply of a replica: its role, the address of its primary in two, how far it is.
    role = await _ask(client, "ROLE")
    return bool(role[0] == "master" or role[3] == "connected")


async def _views(clients: Sequence[redis.Redis]) -> list[View]:
    return [read_view(await _ask(client, "CLUSTER", "NODES")) for client in clients]


def _client(url: str) -> redis.Redis:
    return redis.Redis.from_url(url, decode_responses=True, socket_timeout=_ANSWER_DEADLINE_S)


async def _ask(client: redis.Redis, *command: str | int) -> Any:
    return await client.execute_command(*command)  # type: ignore[no-untyped-call]
