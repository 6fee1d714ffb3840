"""The right to run a batch: one holder at a time, over all processes. It lapses by itself.

A holder that was thought dead is harmless all the same: it writes under its own fence, where nobody looks any more.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from schemas.ledger.keys import batch_lease
from schemas.runtime.valkey.store import Store

LEASE_MS: Final = 20_000
RENEW_S: Final = 4.0

# Takes the lease, or makes it last longer where it is ours.
_TAKE: Final = """
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
"""
_GIVE_BACK: Final = """
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
"""


@dataclass(frozen=True, slots=True)
class BatchLeases:
    """Leases in the ledger's store. Every call raises ``StoreUnavailable`` while that is away."""

    store: Store
    token: str
    """Of this life of this process: one that was started again is another holder."""

    async def take(self, batch: str) -> bool:
        """Whether the lease is ours now, from now on."""
        key = batch_lease(batch)
        return bool(await self.store.call("EVAL", _TAKE, 1, key, self.token, LEASE_MS))

    async def give_back(self, batch: str) -> None:
        """Let others have it at once."""
        await self.store.call("EVAL", _GIVE_BACK, 1, batch_lease(batch), self.token)
