"""Ways to lose a ledger while it is used; each returns once the loss has happened, not once it is mended.

Only the stack's own store servers are touched, by pid and in their own folders.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.chaos.rig import Rig
from tests.chaos.stores import StoreServer, ledger_servers, primaries

ROLLED_BACK_S: Final = 120.0
"""How old the copy is that a store is rolled back to."""
_LAG_S: Final = 2.0
_PROMOTED_WITHIN_S: Final = 60.0
_ZOMBIE_EXTRA_S: Final = 2.0
_LOG_FOLDER: Final = "appendonlydir"


@dataclass
class Losing:
    """One loss: what has to be done before, and the loss itself."""

    rig: Rig
    copies: Path
    """Where copies of the stores are kept that a scenario goes back to."""
    told: list[str] = field(default_factory=list)
    """What was done, for the report."""

    @property
    def servers(self) -> list[StoreServer]:
        return ledger_servers(self.rig.state_dir)

    async def flushall(self) -> None:
        """Every key is gone, the servers run on."""
        for server in primaries(self.servers):
            with server.open() as store:
                store.flushall()
        self.told.append("FLUSHALL on every primary")

    async def deleted(self) -> None:
        """The servers are killed and their append-only files gone."""
        async with self._all_away():
            for server in self.servers:
                shutil.rmtree(server.folder / _LOG_FOLDER)
        self.told.append("killed, append-only files deleted, started again")

    async def cut(self) -> None:
        """The servers are killed and their append-only files end in the middle."""
        async with self._all_away():
            for server in self.servers:
                newest = max((server.folder / _LOG_FOLDER).glob("*.incr.aof"))
                size = newest.stat().st_size
                os.truncate(newest, size // 2)
                self.told.append(f"{server.name}: {size} bytes cut to {size // 2}")

    async def keep_copy(self) -> None:
        """Before ``rolled_back``: the stores as they are now."""
        for server in self.servers:
            shutil.copytree(server.folder / _LOG_FOLDER, self.copies / server.name)

    async def rolled_back(self) -> None:
        """The servers are killed and go on from an older copy of themselves."""
        async with self._all_away():
            for server in self.servers:
                shutil.rmtree(server.folder / _LOG_FOLDER)
                shutil.copytree(self.copies / server.name, server.folder / _LOG_FOLDER)
        self.told.append(f"killed, rolled back by {ROLLED_BACK_S:.0f} s")

    async def promoted(self) -> None:
        """A primary is killed; its replica, which missed its last writes, takes its place."""
        victim = primaries(self.servers)[0]
        with victim.open() as store:
            # Its replicas are cut off and may not come back, so they fall behind.
            store.execute_command("ACL", "SETUSER", "default", "-psync", "-sync")
            store.execute_command("CLIENT", "KILL", "TYPE", "replica")
        before = {server.name for server in primaries(self.servers)}
        await asyncio.sleep(_LAG_S)
        async with self.rig.away(victim.name):
            taken = await self._promotion(before)
        self.told.append(f"{victim.name} killed, {taken} promoted {_LAG_S:.0f} s behind it")

    async def zombie(self) -> None:
        """A primary stands still until its replica has taken its place, and then goes on."""
        victim = primaries(self.servers)[0]
        before = {server.name for server in primaries(self.servers)}
        pids = self.rig.pids_of(victim.name)
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            taken = await self._promotion(before)
            await asyncio.sleep(_ZOMBIE_EXTRA_S)
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)
        self.told.append(f"{victim.name} stood still, {taken} was promoted, {victim.name} went on")

    async def _promotion(self, before: set[str]) -> str:
        end_s = time.monotonic() + _PROMOTED_WITHIN_S
        while time.monotonic() < end_s:
            for server in await asyncio.to_thread(primaries, self.servers):
                if server.name not in before:
                    return server.name
            await asyncio.sleep(0.1)
        raise AssertionError(f"no replica was promoted within {_PROMOTED_WITHIN_S} s")

    def _all_away(self) -> AbstractAsyncContextManager[None]:
        return self.rig.away(*(server.name for server in self.servers))


Loss = Callable[[Losing], Awaitable[None]]
SCENARIOS: Final[dict[str, Loss]] = {
    "flushall": Losing.flushall,
    "deleted": Losing.deleted,
    "cut": Losing.cut,
    "rolled-back": Losing.rolled_back,
    "promoted": Losing.promoted,
    "zombie": Losing.zombie,
}
NEEDS_REPLICAS: Final = ("promoted", "zombie")
