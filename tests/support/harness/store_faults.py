"""What befalls a ledger's store: lost, emptied, cut, rolled back; a replica promoted, a primary that returns.

Works on one server and on a cluster. A replica is behind because it was refused by its primary, not because it was
stopped: a stopped one still reads what waits for it in its socket when it goes on.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import redis.asyncio as redis
from redis.crc import key_slot

from deploy.embedded.cluster import ClusterNode, form_cluster, promote
from deploy.embedded.cluster_plan import View, read_view
from schemas.ledger.shards import shard_of
from tests.support.harness.store_servers import BACK_DEADLINE_S, LOOK_S, StoreServers

_DATA = "appendonlydir"
_IDENTITY = "nodes.conf"
_NOBODY = "nobody"
"""A user that no primary knows."""


@dataclass(frozen=True)
class Pair:
    """A primary and a copy of it, by name."""

    primary: str
    replica: str


def orgs_everywhere(shards: int, each: int = 1) -> Mapping[int, tuple[str, ...]]:
    """Names of organizations by shard: so many in every one, and so on every primary."""
    found: dict[int, list[str]] = {shard: [] for shard in range(shards)}
    for number in count():
        name = f"org-{number}"
        names = found[shard_of(name, shards)]
        if len(names) < each:
            names.append(name)
        if all(len(names) == each for names in found.values()):
            return {shard: tuple(names) for shard, names in found.items()}
    raise AssertionError("count does not end")


class StoreFaults:
    """Faults of a ledger's servers; each returns when it has happened and all servers answer again."""

    def __init__(self, servers: StoreServers) -> None:
        self._servers = servers

    async def primaries(self) -> list[str]:
        """The names of those that serve keys now."""
        return [n for n, view in (await self._views()).items() if view.myself.slots]

    async def primary_of(self, shard: int) -> str:
        """The name of the server that has a shard now."""
        slot = key_slot(b"{%d}|" % shard)
        views = await self._views()
        return next(n for n, view in views.items() if slot in view.myself.slots)

    async def pair_of(self, shard: int) -> Pair:
        """The server that has a shard now, and its copy."""
        name, views = await self.primary_of(shard), await self._views()
        identity = views[name].myself.id
        copies = (n for n, view in views.items() if view.myself.primary == identity)
        return Pair(name, next(copies))

    async def flush(self) -> None:
        """FLUSHALL on every primary. The functions stay, as they do for whoever types it."""
        for name in await self.primaries():
            await self._ask(name, "FLUSHALL")

    async def lose_files(self, *names: str) -> None:
        """Killed, all data deleted, started; of all servers when none is named. They are still themselves."""
        async with self._servers.away(*self._named(names)):
            for name in self._named(names):
                shutil.rmtree(self._servers.folder(name) / _DATA)
        await self.until_served()

    async def replace(self, name: str) -> None:
        """A server of a cluster loses all, also who it was, and is made a member again by hand."""
        primaries = len(await self.primaries())
        async with self._servers.away(name):
            shutil.rmtree(self._servers.folder(name) / _DATA)
            (self._servers.folder(name) / _IDENTITY).unlink()
        nodes = list(self._servers.nodes.values())
        await form_cluster(nodes[:primaries], nodes[primaries:])

    async def cut_log(self, name: str, drop_bytes: int | None = None) -> int:
        """Killed, the end of its append-only file cut off (half of it, or so many bytes), started.

        How many bytes are gone.
        """
        async with self._servers.away(name):
            log = max((self._servers.folder(name) / _DATA).glob("*.incr.aof"), key=_sequence)
            size_bytes = log.stat().st_size
            gone_bytes = size_bytes // 2 if drop_bytes is None else drop_bytes
            assert 0 < gone_bytes < size_bytes, f"{log} has {size_bytes} bytes"
            os.truncate(log, size_bytes - gone_bytes)
        await self.until_served()
        return gone_bytes

    async def keep_copy(self, into: Path | None = None) -> Path:
        """A copy of the data of all servers as it is now, for `roll_back`."""
        folder = into or Path(tempfile.mkdtemp(prefix="tallygate-store-copy-"))
        for name in self._servers.nodes:
            source = self._servers.folder(name) / _DATA
            await asyncio.to_thread(shutil.copytree, source, folder / name)
        return folder

    async def roll_back(self, copy: Path, *names: str) -> None:
        """Killed, its data replaced by the copy, started; all servers when none is named."""
        async with self._servers.away(*self._named(names)):
            for name in self._named(names):
                data = self._servers.folder(name) / _DATA
                shutil.rmtree(data)
                shutil.copytree(copy / name, data)
        await self.until_served()

    @asynccontextmanager
    async def behind(self, pair: Pair) -> AsyncIterator[None]:
        """The replica hears nothing of its primary until the block is left."""
        for setting in ("masteruser", "masterauth"):
            await self._ask(pair.replica, "CONFIG", "SET", setting, _NOBODY)
        await self._ask(pair.replica, "CLIENT", "KILL", "TYPE", "master")
        async with asyncio.timeout(BACK_DEADLINE_S):
            while (await self._ask(pair.replica, "ROLE"))[3] == b"connected":  # noqa: ASYNC110  # another process
                await asyncio.sleep(LOOK_S)
        try:
            yield
        finally:
            for setting in ("masteruser", "masterauth"):
                await self._ask(pair.replica, "CONFIG", "SET", setting, "")

    async def promote(self, pair: Pair) -> None:
        """The replica takes its primary's place at once, whatever the others say."""
        port = self._servers.nodes[pair.replica].port
        async with (
            asyncio.timeout(BACK_DEADLINE_S),
            redis.Redis(port=port, decode_responses=True) as client,
        ):
            await promote(client)

    async def lose_primary(self, pair: Pair, behind_s: float) -> None:
        """The primary is killed when its copy is so far behind, and the copy is promoted.

        The primary comes back as a copy.
        """
        async with self.behind(pair):
            await asyncio.sleep(behind_s)
            async with self._servers.away(pair.primary):
                await self.promote(pair)
        await self.until_served()

    @asynccontextmanager
    async def zombie(self, pair: Pair, behind_s: float = 0.0) -> AsyncIterator[None]:
        """The primary is stopped and its copy promoted; it goes on, as if nothing had been, when the block is left."""
        async with self.behind(pair):
            await asyncio.sleep(behind_s)
            pid = self._servers.pid(pair.primary)
            os.kill(pid, signal.SIGSTOP)
            try:
                await self.promote(pair)
                yield
            finally:
                os.kill(pid, signal.SIGCONT)
        await self.until_served()

    async def until_served(self) -> None:
        """Return once every server of a cluster says that all is served, and copies are connected."""
        for name, node in self._servers.nodes.items():
            async with asyncio.timeout(BACK_DEADLINE_S):
                while node.cluster_port and not await self._is_settled(name):  # noqa: ASYNC110  # another process
                    await asyncio.sleep(LOOK_S)

    async def _is_settled(self, name: str) -> bool:
        about = (await self._ask(name, "CLUSTER", "INFO")).decode()
        role = await self._ask(name, "ROLE")
        return "cluster_state:ok" in about and (role[0] == b"master" or role[3] == b"connected")

    async def _views(self) -> dict[str, View]:
        return {n: await self._view(n, node) for n, node in self._servers.nodes.items()}

    async def _view(self, name: str, node: ClusterNode) -> View:
        if not node.cluster_port:
            return read_view("alone - myself,master - 0 0 0 connected 0-16383")
        return read_view((await self._ask(name, "CLUSTER", "NODES")).decode())

    def _named(self, names: tuple[str, ...]) -> tuple[str, ...]:
        return names or tuple(self._servers.nodes)

    async def _ask(self, name: str, *command: str) -> Any:
        port = self._servers.nodes[name].port
        async with redis.Redis(port=port, protocol=2, socket_timeout=5.0) as client:
            client.response_callbacks.clear()
            return await client.execute_command(*command)  # type: ignore[no-untyped-call]


def _sequence(log: Path) -> int:
    """`appendonly.aof.<n>.incr.aof`."""
    return int(log.name.split(".")[-3])
