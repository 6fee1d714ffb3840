"""Makes one cluster of servers that run alone: slots for each primary, a primary for each replica.

The servers run already, with ``cluster_settings`` in their configuration. What stands is left as it is, so
that a cluster that was stopped is only waited for.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final

import redis.asyncio as redis
from redis.exceptions import RedisError

from deploy.embedded.ports import HOST
from deploy.embedded.problem import StackError

SLOTS: Final = 16_384
NODE_TIMEOUT_MS: Final = 2_000
"""After that long without an answer its neighbours give a node up, and a replica takes over."""
_FORM_DEADLINE_S: Final = 20.0
_ANSWER_DEADLINE_S: Final = 5.0
_GREET_EVERY_S: Final = 3.0
_POLL_S: Final = 0.05
_NONE: Final = "-"
"""How CLUSTER NODES writes that a server copies no other."""
_WORDS_BEFORE_SLOTS: Final = 8


@dataclass(frozen=True, slots=True)
class ClusterNode:
    """A server of a cluster: its port for clients, and its port for the others of the cluster."""

    port: int
    cluster_port: int


def cluster_settings(cluster_port: int) -> str:
    """What the configuration of a node of a cluster says beside that of a server alone.

    The slots of one that is away are away, and no others.
    """
    return f"""\
cluster-enabled yes
cluster-port {cluster_port}
cluster-config-file nodes.conf
cluster-node-timeout {NODE_TIMEOUT_MS}
cluster-require-full-coverage no
repl-diskless-sync-delay 0
"""


def slot_ranges(primaries: int) -> list[tuple[int, int]]:
    """First and last slot of each primary: all slots, in shares of one size."""
    bounds = [SLOTS * n // primaries for n in range(primaries + 1)]
    return [(first, end - 1) for first, end in itertools.pairwise(bounds)]


async def form_cluster(
    primaries: Sequence[ClusterNode], replicas: Sequence[ClusterNode] = ()
) -> None:
    """Return once every server knows all others and all slots are served.

    Replica n copies primary n, modulo their number. Raises ``StackError``.
    """
    try:
        async with asyncio.timeout(_FORM_DEADLINE_S), AsyncExitStack() as open_:
            of = {
                node: await open_.enter_async_context(_client(node))
                for node in (*primaries, *replicas)
            }
            await _share_slots([of[node] for node in primaries])
            await _introduce(of)
            for n, replica in enumerate(replicas):
                await _follow(of[replica], of[primaries[n % len(primaries)]])
    except (RedisError, OSError, TimeoutError) as error:
        raise StackError(
            "the stores do not become one cluster",
            str(error) or f"they did not agree within {_FORM_DEADLINE_S:.0f} s",
            "see their logs in the state folder, or start with a new --state-dir",
        ) from error


@asynccontextmanager
async def _client(node: ClusterNode) -> AsyncIterator[redis.Redis]:
    client = redis.Redis(
        host=HOST, port=node.port, decode_responses=True, socket_timeout=_ANSWER_DEADLINE_S
    )
    try:
        yield client
    finally:
        await client.aclose()


async def _ask(client: redis.Redis, *command: str | int) -> Any:
    return await client.execute_command(*command)  # type: ignore[no-untyped-call]


async def _share_slots(primaries: Sequence[redis.Redis]) -> None:
    """Give slots to those that are new, under numbers above all earlier ones: what they say of them holds."""
    abouts = [await _about(client) for client in primaries]
    epoch = max(int(about["cluster_current_epoch"]) for about in abouts)
    ranges = slot_ranges(len(primaries))
    for client, about, (first, last) in zip(primaries, abouts, ranges, strict=True):
        if about["cluster_known_nodes"] == "1" and about["cluster_slots_assigned"] == "0":
            epoch += 1
            await _ask(client, "CLUSTER", "ADDSLOTSRANGE", first, last)
            await _ask(client, "CLUSTER", "SET-CONFIG-EPOCH", epoch)


async def _introduce(clients: Mapping[ClusterNode, redis.Redis]) -> None:
    """Tell the first of all others until everybody knows everybody; a greeting may get lost."""
    first, *others = clients
    while True:
        for node in others:
            meet = ("CLUSTER", "MEET", HOST, node.port, node.cluster_port)
            await _ask(clients[first], *meet)
        with suppress(TimeoutError):
            async with asyncio.timeout(_GREET_EVERY_S):
                return await _until_all_know(list(clients.values()))


async def _until_all_know(clients: Sequence[redis.Redis]) -> None:
    for client in clients:
        while not _is_whole(await _about(client), len(clients)):  # noqa: ASYNC110  # callers have deadlines
            await asyncio.sleep(_POLL_S)


def _is_whole(about: Mapping[str, str], nodes: int) -> bool:
    served = about["cluster_slots_ok"] == str(SLOTS) and about["cluster_state"] == "ok"
    return served and int(about["cluster_known_nodes"]) >= nodes


async def _about(client: redis.Redis) -> dict[str, str]:
    lines = (line.partition(":") for line in (await _ask(client, "CLUSTER", "INFO")).split())
    return {name: value for name, _, value in lines}


async def _follow(replica: redis.Redis, primary: redis.Redis) -> None:
    """Make it a copy, unless it is one, or serves slots since it was promoted; return once it is connected."""
    mine, its = await _myself(replica), await _myself(primary)
    if mine.primary == _NONE and not mine.has_slots:
        await _ask(replica, "CLUSTER", "REPLICATE", its.id if its.primary == _NONE else its.primary)
    # The reply of a replica: its role, the address of its primary in two, how far it is.
    while (role := await _ask(replica, "ROLE"))[0] != "master" and role[3] != "connected":  # noqa: ASYNC110  # the caller has a deadline
        await asyncio.sleep(_POLL_S)


@dataclass(frozen=True, slots=True)
class _Myself:
    """What a server says of itself in CLUSTER NODES."""

    id: str
    primary: str
    has_slots: bool


async def _myself(client: redis.Redis) -> _Myself:
    lines = (await _ask(client, "CLUSTER", "NODES")).splitlines()
    words = next(line for line in lines if "myself" in line).split()
    return _Myself(words[0], words[3], len(words) > _WORDS_BEFORE_SLOTS)
