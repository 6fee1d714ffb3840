"""Ways to lose a ledger while it is used, by the names that the command line knows; each returns when it has happened."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tests.chaos.owners import Owner, replaced, taken_over, until_deciding
from tests.chaos.rig import Rig
from tests.chaos.stores import StoreServer, ledger_servers, metas
from tests.support.harness.store_faults import StoreFaults
from tests.support.harness.store_servers import OfStack

ROLLED_BACK_S: Final = 120.0
"""How old the copy is that a store is rolled back to."""
_BEHIND_S: Final = 2.0
_STOPPED_S: Final = 5.0
_CUT_OFF_S: Final = 15.0
"""Longer than clients take to ask again who serves what."""
_AWAY_S: Final = 3.0
_REBUILT_WITHIN_S: Final = 60.0
_FIRST_SHARD: Final = 0
_ALL_PACKETS: Final = -2
_NONE: Final = -1
_GIVES_UP: Final = "cluster-node-timeout"
_NEVER_GIVES_UP_MS: Final = 60_000


@dataclass
class Losing:
    """One loss of a running stack's ledger."""

    rig: Rig
    faults: StoreFaults
    copy: Path
    """Where what a rolled back store goes back to is kept."""
    lost_s: float = 0.0
    """When it happened (monotonic)."""
    told: list[str] = field(default_factory=list)
    """What was done, for the report."""
    found: list[str] = field(default_factory=list)
    """What was wrong about it."""

    @classmethod
    def of(cls, rig: Rig) -> Losing:
        """Nothing is lost yet."""
        return cls(rig, StoreFaults(OfStack(rig.stack)), rig.state_dir.parent / "copy")

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
        await asyncio.to_thread(shutil.rmtree, self.copy)

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

    async def cut_off(self) -> None:
        """A primary hears no other server, but all its clients, while its replica has taken its place.

        Each client learns of the other by itself, so for some seconds some use this one and some that.
        """
        pair = await self.faults.pair_of(_FIRST_SHARD)
        old = self._server(pair.primary)
        self._begin(f"{pair.primary} heard no server, {pair.replica} was promoted, clients stayed")
        async with self.faults.behind(pair):
            await asyncio.sleep(_BEHIND_S)
            given = await asyncio.to_thread(_cut_off, old)
            await self.faults.promote(pair)
            before = await asyncio.to_thread(_functions_run, old)
        await asyncio.sleep(_CUT_OFF_S)
        served = await asyncio.to_thread(_functions_run, old) - before
        self.told.append(f"it answered {served} calls meanwhile")
        await asyncio.to_thread(_let_hear, old, given)
        await self.faults.until_served()

    async def owner_stopped(self) -> None:
        """Accounting stands still in mid-rebuild, another owner takes its shards, and it goes on."""
        owner = Owner.of(self.rig)
        struck = await self._in_mid_rebuild(owner, signal.SIGSTOP)
        taken = await taken_over(self.rig, struck, struck)
        os.kill(owner.pid, signal.SIGCONT)
        self.told.append(
            f"whole {time.monotonic() - self.lost_s:.1f} s after the loss; it went on then"
        )
        self.found += await replaced(self.rig, taken)

    async def owner_killed(self) -> None:
        """Accounting is killed in mid-rebuild; whoever owns its shards then makes them again."""
        owner = Owner.of(self.rig)
        struck = await self._in_mid_rebuild(owner, signal.SIGKILL)
        await taken_over(self.rig, struck, struck)

    async def owner_away(self) -> None:
        """Accounting is killed in the middle of booking, and the ledger lost before another one runs."""
        self._begin("accounting killed, FLUSHALL while nobody books")
        async with self.rig.away("accounting"):
            await self.faults.flush()
            await asyncio.sleep(_AWAY_S)

    async def twice(self) -> None:
        """The ledger is lost, and again as soon as it decides, before keys, jobs and usage hours are back."""
        before = await asyncio.to_thread(metas, ledger_servers(self.rig.state_dir))
        lives = {number: meta.epoch for number, meta in before.items()}
        self._begin("FLUSHALL, and again once every shard decided")
        await self.faults.flush()
        await until_deciding(self.rig, lives, self.lost_s + _REBUILT_WITHIN_S)
        self.told.append(f"again {time.monotonic() - self.lost_s:.1f} s later")
        await self.faults.flush()

    async def _in_mid_rebuild(self, owner: Owner, blow: signal.Signals) -> dict[int, int]:
        """Empty the ledger and strike its owner while it rebuilds; the lives of the shards that were not open then."""
        self._begin(f"FLUSHALL, {owner.name} {blow.name} in mid-rebuild")
        await self.faults.flush()
        shards, steps = await owner.strike_in_mid_rebuild(blow)
        found = await asyncio.to_thread(metas, ledger_servers(self.rig.state_dir))
        struck = {n: found[n].epoch for n in shards if n in found and not found[n].is_ready}
        self.told.append(f"it had begun {steps}; not open then {sorted(struck)}")
        if not struck:
            self.found.append("nobody was struck in mid-rebuild")
        return struck

    def _server(self, name: str) -> StoreServer:
        return next(s for s in ledger_servers(self.rig.state_dir) if s.name == name)

    def _begin(self, what: str) -> None:
        self.lost_s = time.monotonic()
        self.told.append(what)


def _cut_off(server: StoreServer) -> str:
    """It hears no other server of its cluster, and serves on all the same; what it was told of giving up before."""
    with server.open() as store:
        given: Any = store.config_get(_GIVES_UP)
        store.config_set(_GIVES_UP, _NEVER_GIVES_UP_MS)
        store.execute_command("DEBUG", "DROP-CLUSTER-PACKET-FILTER", _ALL_PACKETS)
        return str(given[_GIVES_UP])


def _let_hear(server: StoreServer, given: str) -> None:
    with server.open() as store:
        store.execute_command("DEBUG", "DROP-CLUSTER-PACKET-FILTER", _NONE)
        store.config_set(_GIVES_UP, given)


def _functions_run(server: StoreServer) -> int:
    """How many calls of the ledger it has answered since it runs."""
    with server.open() as store:
        about: Any = store.info("commandstats")
        return int(about.get("cmdstat_fcall", {"calls": 0})["calls"])


@dataclass(frozen=True)
class Scenario:
    """A loss, and the stack that it needs."""

    lose: Callable[[Losing], Awaitable[None]]
    primaries: tuple[int, ...] = (1, 3)
    ledger_replicas: int = 0
    accountings: int = 1
    may_debug: bool = False
    """Whether its stores are told what only tests tell them."""
    lead_s: float = 0.0
    """How long it takes until the loss."""


SCENARIOS: Final[dict[str, Scenario]] = {
    "flushall": Scenario(Losing.flushall),
    "deleted": Scenario(Losing.deleted),
    "cut": Scenario(Losing.cut),
    "rolled-back": Scenario(Losing.rolled_back, lead_s=ROLLED_BACK_S),
    "promoted": Scenario(Losing.promoted, primaries=(3,), ledger_replicas=1),
    "zombie": Scenario(Losing.zombie, primaries=(3,), ledger_replicas=1),
    "cut-off": Scenario(Losing.cut_off, primaries=(3,), ledger_replicas=1, may_debug=True),
    "owner-stopped": Scenario(Losing.owner_stopped, primaries=(1,), accountings=2),
    "owner-killed": Scenario(Losing.owner_killed, primaries=(1,)),
    "owner-away": Scenario(Losing.owner_away, primaries=(1,)),
    "twice": Scenario(Losing.twice, primaries=(1,)),
}
