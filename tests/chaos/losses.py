"""Ways to lose a ledger while it is used, by the names that the command line knows; each returns when it has happened."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.chaos.rig import Rig
from tests.support.harness.store_faults import StoreFaults
from tests.support.harness.store_servers import OfStack

ROLLED_BACK_S: Final = 120.0
"""How old the copy is that a store is rolled back to."""
_BEHIND_S: Final = 2.0
_STOPPED_S: Final = 5.0
_FIRST_SHARD: Final = 0


@dataclass
class Losing:
    """One loss of a running stack's ledger."""

    faults: StoreFaults
    copy: Path
    """Where what a rolled back store goes back to is kept."""
    lost_s: float = 0.0
    """When it happened (monotonic)."""
    told: list[str] = field(default_factory=list)
    """What was done, for the report."""

    @classmethod
    def of(cls, rig: Rig) -> Losing:
        """Nothing is lost yet."""
        return cls(StoreFaults(OfStack(rig.stack)), rig.state_dir.parent / "copy")

    async def flushall(self) -> None:
        """Every key is gone, the servers run on."""
        self._begin("FLUSHALL on every primary")
        await self.faults.flush()

    async def deleted(self) -> None:
        """The servers are killed and their files gone."""
        self._begin("killed, append-only files deleted, started")
        await self.faults.lose_files()

    async def cut(self) -> None:
        """The servers are killed and their append-only files end in the middle."""
        self._begin("killed, append-only files cut in the middle, started")
        for name in await self.faults.primaries():
            gone_bytes = await self.faults.cut_log(name)
            self.told.append(f"{name} lost {gone_bytes} bytes")

    async def rolled_back(self) -> None:
        """The servers are killed and go on from an older copy of themselves."""
        await self.faults.keep_copy(self.copy)
        await asyncio.sleep(ROLLED_BACK_S)
        self._begin(f"killed, rolled back by {ROLLED_BACK_S:.0f} s, started")
        await self.faults.roll_back(self.copy)

    async def promoted(self) -> None:
        """A primary is killed; its replica, which missed its last writes, takes its place."""
        pair = await self.faults.pair_of(_FIRST_SHARD)
        self._begin(f"{pair.primary} killed, {pair.replica} promoted {_BEHIND_S:.0f} s behind it")
        await self.faults.lose_primary(pair, _BEHIND_S)

    async def zombie(self) -> None:
        """A primary stands still until its replica has taken its place, and then goes on."""
        pair = await self.faults.pair_of(_FIRST_SHARD)
        self._begin(f"{pair.primary} stood still, {pair.replica} was promoted, both went on")
        async with self.faults.zombie(pair, _BEHIND_S):
            await asyncio.sleep(_STOPPED_S)

    def _begin(self, what: str) -> None:
        self.lost_s = time.monotonic()
        self.told.append(what)


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
