"""The ledger's servers of a stack or of a test's own cluster, by name: where they are, and how they are kept away.

Invariant: only processes that the test or its stack started are ever signalled.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Protocol

import redis.asyncio as redis
from redis.exceptions import RedisError

from deploy.embedded.cluster import ClusterNode
from tests.support.harness.ledger_server import LedgerServer
from tests.support.harness.running_stack import RunningStack, descendants

BACK_DEADLINE_S = 40.0
LOOK_S = 0.05


class StoreServers(Protocol):
    """Servers that together are one ledger."""

    @property
    def nodes(self) -> Mapping[str, ClusterNode]:
        """Their ports by name; the second is 0 for a server alone."""

    def folder(self, name: str) -> Path:
        """Where a server keeps its files."""

    def pid(self, name: str) -> int:
        """Of the living process."""

    def away(self, *names: str) -> AbstractAsyncContextManager[None]:
        """They are killed, and started again when the block is left; they answer then."""


class OfStack:
    """Those of a stack that runs as users run it. While one is away its supervisor sleeps."""

    def __init__(self, stack: RunningStack) -> None:
        self._stack = stack

    @property
    def nodes(self) -> Mapping[str, ClusterNode]:
        """As the state folder says."""
        ports = json.loads((self._stack.state_dir / "stack.json").read_text())["ports"]
        names = [n for n in ports if n.partition("-")[0] == "ledger" and not n.endswith("-link")]
        # What a folder had of another shape may still be named there.
        living = [n for n in names if f":{ports[n]}" in self._stack.ledger_url]
        return {n: ClusterNode(ports[n], ports.get(f"{n}-link", 0)) for n in living}

    def folder(self, name: str) -> Path:
        """In the state folder."""
        return self._stack.state_dir / name

    def pid(self, name: str) -> int:
        """Found by its port among the stack's own processes."""
        mark = f":{self.nodes[name].port}".encode()
        for pid in descendants(self._stack.process.pid):
            words = Path(f"/proc/{pid}/cmdline")
            if words.exists() and mark in words.read_bytes():
                return pid
        raise ProcessLookupError(f"{name} does not run")

    @asynccontextmanager
    async def away(self, *names: str) -> AsyncIterator[None]:
        """Killed; the supervisor that sleeps starts nobody."""
        supervisor = self._stack.process.pid
        os.kill(supervisor, signal.SIGSTOP)
        try:
            for name in names:
                os.kill(self.pid(name), signal.SIGKILL)
            yield
        finally:
            os.kill(supervisor, signal.SIGCONT)
        await until_answering([self.nodes[name].port for name in names])


class OfTest:
    """Those that a test started itself."""

    def __init__(self, servers: Sequence[LedgerServer]) -> None:
        self._servers = {server.folder.name: server for server in servers}

    @property
    def nodes(self) -> Mapping[str, ClusterNode]:
        """By the names of their folders."""
        return {n: ClusterNode(s.port, s.cluster_port) for n, s in self._servers.items()}

    def folder(self, name: str) -> Path:
        """Each has its own."""
        return self._servers[name].folder

    def pid(self, name: str) -> int:
        """Of the process that we started."""
        process = self._servers[name].process
        assert process is not None, f"{name} does not run"
        return process.pid

    @asynccontextmanager
    async def away(self, *names: str) -> AsyncIterator[None]:
        """Killed, and started again."""
        for name in names:
            self._servers[name].kill()
        try:
            yield
        finally:
            for name in names:
                await asyncio.to_thread(self._servers[name].start)


async def until_answering(ports: Sequence[int]) -> None:
    """Return once each answers PING, which one that still loads does not. Raises `TimeoutError`."""
    for port in ports:
        async with asyncio.timeout(BACK_DEADLINE_S):
            while not await _answers(port):  # noqa: ASYNC110  # another process
                await asyncio.sleep(LOOK_S)


async def _answers(port: int) -> bool:
    async with redis.Redis(port=port, socket_timeout=1.0, single_connection_client=True) as client:
        try:
            return bool(await client.ping())
        except RedisError:
            return False
