"""Finds out what the budget service has counted for sure of an organization's spend, before it is asked.

The ledger says what was booked and through which outcome; accounting says through which outcome the service has taken
spend, and which was the last that takes some back. Once the service has passed what was booked, and nothing beyond that
is taken back, the sum is counted, and stays so until something is. Too little is safe: what is counted and not known to
be stands against the remainder twice, until the next question.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from schemas.ledger.documents import TakeSnapshot
from schemas.ledger.keys import REPORTED, of_shard
from schemas.runtime.ledger.client import LedgerClient
from schemas.runtime.process.clock import Clock
from schemas.runtime.valkey.store import Store

__all__ = ["CountedSpend"]

_KNOWN_MAX: Final = 65_536
_LOOK_AGAIN_S: Final = 0.025
_PATIENCE_S: Final = 0.25
"""How long a newer sum is waited for where an older one would do."""


class _Sum(NamedTuple):
    nano_usd: int
    through: int
    """The last outcome that is in it."""


class _Told(NamedTuple):
    offset: int
    """The first outcome of which the service has not been told."""
    returned: int
    """The last one that takes spend back, told or not; -1: there is none."""


@dataclass(slots=True)
class CountedSpend:
    """What is counted of each balance of an organization."""

    ledger: LedgerClient
    store: Store
    clock: Clock
    _known: OrderedDict[tuple[str, str], _Sum] = field(default_factory=OrderedDict)

    async def nano_usd(self, org: str, balance: str) -> int:
        """The newest sum that is counted for sure; waits for as long as it knows none.

        Raises ``LedgerUnavailable``, ``StoreUnavailable`` or ``StoreError``.
        """
        patient_until_s = self.clock.monotonic_s() + _PATIENCE_S
        shard, older = self.ledger.shard_of(org), self._known.get((org, balance))
        newest = await self._booked(org, shard, balance)
        while newest.nano_usd != 0:
            told = await self._told(shard)
            if told.offset > newest.through >= told.returned:
                break
            is_late = self.clock.monotonic_s() >= patient_until_s
            if older is not None and older.through >= told.returned and is_late:
                return older.nano_usd
            await asyncio.sleep(_LOOK_AGAIN_S)
            if told.returned > newest.through:
                newest = await self._booked(org, shard, balance)
        self._known[org, balance] = newest
        self._known.move_to_end((org, balance))
        if len(self._known) > _KNOWN_MAX:
            self._known.popitem(last=False)
        return newest.nano_usd

    async def _booked(self, org: str, shard: int, balance: str) -> _Sum:
        found = await self.ledger.snapshot(TakeSnapshot(org=org, balances=(balance,)))
        through = max(found.folded, found.offsets.get(shard, -1))
        return _Sum(found.totals[balance].get("settled", 0), through)

    async def _told(self, shard: int) -> _Told:
        found = await self.store.call("HMGET", of_shard(shard, REPORTED), "offset", "returned")
        offset, returned = (int(each) if each is not None else None for each in found)
        return _Told(offset or 0, -1 if returned is None else returned)
