"""The accounting process that makes shards of a lost ledger again, struck while it does; only the stack's own is."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx

from tests.chaos.rig import Rig
from tests.chaos.stores import ledger_servers, metas

_ROLE: Final = "accounting"
_BEGINS_WITHIN_S: Final = 20.0
_LOOK_S: Final = 0.002
_LOOK_EVERY_S: Final = 0.2
_WORD: Final = "rebuild ("
_BEFORE_OPEN: Final = ("folds", "looks", "restores")
"""What a rebuild does between emptying a shard and opening it."""
_TAKEN_WITHIN_S: Final = 90.0
_OVERWRITES_WITHIN_S: Final = 25.0
"""A process that slept for long first waits until its group may have told it."""


@dataclass(frozen=True)
class Owner:
    """One accounting process."""

    name: str
    pid: int
    url: str

    @classmethod
    def of(cls, rig: Rig) -> Owner:
        """The first one."""
        name = f"{_ROLE}-0"
        pid = next(pid for pid in rig.pids_of(_ROLE) if _name_of(pid) == name)
        return cls(name, pid, f"http://127.0.0.1:{rig.port_of(name)}/readyz")

    async def strike_in_mid_rebuild(self, blow: signal.Signals) -> tuple[frozenset[int], str]:
        """Strike it once it folds the log or restores; its shards that are not open, and what it did then.

        Raises ``TimeoutError`` when it rebuilds nothing.
        """
        async with asyncio.timeout(_BEGINS_WITHIN_S), httpx.AsyncClient(trust_env=False) as client:
            while True:
                building = _building(await self._components(client))
                if any(step.startswith(_BEFORE_OPEN) for step in building.values()):
                    os.kill(self.pid, blow)
                    steps = "; ".join(f"{number} {step}" for number, step in building.items())
                    return frozenset(building), steps
                await asyncio.sleep(_LOOK_S)
        raise AssertionError("the loop does not end")

    async def _components(self, client: httpx.AsyncClient) -> Mapping[str, str]:
        answer = await client.get(self.url, timeout=1.0)
        found: Mapping[str, str] = answer.json()["components"]
        return found


async def taken_over(rig: Rig, shards: Collection[int], since: Mapping[int, int]) -> dict[int, int]:
    """The lives of these shards once all are whole again under later ones. Raises ``TimeoutError``."""
    async with asyncio.timeout(_TAKEN_WITHIN_S):
        while True:
            found = await asyncio.to_thread(metas, ledger_servers(rig.state_dir))
            whole = {
                n: meta.epoch for n, meta in found.items() if meta.is_ready and meta.is_complete
            }
            if all(whole.get(number, 0) > since.get(number, 0) for number in shards):
                return {number: whole[number] for number in shards}
            await asyncio.sleep(_LOOK_EVERY_S)
    raise AssertionError("the loop does not end")


async def until_deciding(rig: Rig, lives: Mapping[int, int], end_s: float) -> None:
    """Return once every one of these shards decides in a later life. Raises ``TimeoutError``."""
    async with asyncio.timeout(end_s - time.monotonic()):
        while True:
            found = await asyncio.to_thread(metas, ledger_servers(rig.state_dir))
            deciding = {number: meta.epoch for number, meta in found.items() if meta.is_ready}
            if all(deciding.get(number, 0) > epoch for number, epoch in lives.items()):
                return
            await asyncio.sleep(_LOOK_S)


async def replaced(rig: Rig, taken: Mapping[int, int]) -> list[str]:
    """Shards whose life ended although only a process that had been overtaken could have ended it."""
    end_s = time.monotonic() + _OVERWRITES_WITHIN_S
    while time.monotonic() < end_s:
        found = await asyncio.to_thread(metas, ledger_servers(rig.state_dir))
        ended = [
            f"shard {number}: life {epoch} became {found.get(number)}"
            for number, epoch in taken.items()
            if number not in found or found[number].epoch != epoch or not found[number].is_ready
        ]
        if ended:
            return ended
        await asyncio.sleep(_LOOK_EVERY_S)
    return []


def _building(components: Mapping[str, str]) -> dict[int, str]:
    """By shard, the step of its rebuild."""
    return {
        int(name.removeprefix("ledger-")): told.partition("): ")[2]
        for name, told in components.items()
        if name.startswith("ledger-") and _WORD in told
    }


def _name_of(pid: int) -> str:
    """What a process is called in its stack."""
    try:
        words = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except (FileNotFoundError, ProcessLookupError):
        return ""
    mark = b"TALLYGATE_INSTANCE_ID="
    return next((w.removeprefix(mark).decode() for w in words if w.startswith(mark)), "")
