"""Reads the ledger's numbers from its store with a foreign client, by the keys that the design names."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from schemas.ledger.keys import of_org
from schemas.ledger.shards import Shards

RETURN_DEADLINE_S = 15.0
STACK_SHARDS = Shards(4)
"""Of every stack that the tests start."""


def key_of(org: str, suffix: str) -> str:
    """The full key of a suffix inside an organization, in the ledger of a stack."""
    return of_org(STACK_SHARDS.of(org), org, suffix)


class LedgerView:
    """What an organization has on hold."""

    def __init__(self, store: Any) -> None:
        self._store = store

    def held(self, org: str) -> dict[str, int]:
        """What is reserved, by unit; the largest of the unit's balances. Leases are `leases`."""
        held: dict[str, int] = {}
        for key in self._store.scan_iter(key_of(org, "b:*"), count=1_000):
            unit = key.decode().rpartition("/")[2].partition(":")[0]
            reserved = int(self._store.hget(key, "reserved") or 0)
            held[unit] = max(held.get(unit, 0), reserved)
        leases = self._store.scan_iter(key_of(org, "c:*"), count=1_000)
        held["leases"] = sum(self._store.zcard(key) for key in leases)
        return held

    async def becomes_held(self, org: str) -> dict[str, int]:
        """What is on hold, once anything is."""
        return await self._until(org, empty=False)

    async def becomes_free(self, org: str) -> dict[str, int]:
        """What is on hold once nothing should be; what there still is at the deadline."""
        return await self._until(org, empty=True)

    async def _until(self, org: str, *, empty: bool) -> dict[str, int]:
        end_s = time.monotonic() + RETURN_DEADLINE_S
        while True:
            # Key after key is read: what changed in between shows in a second reading.
            held = self.held(org)
            is_stable = held == self.held(org)
            if (is_stable and any(held.values()) != empty) or time.monotonic() > end_s:
                return held
            await asyncio.sleep(0.05)
