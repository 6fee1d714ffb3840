"""Both sides of the books, compared until they are equal or the time is over.

First a look at everything, cheap and at no one instant. What differs, and whatever is under way, is then examined:
tables and attempts at one instant, up to one outcome, against the lines of the log up to that outcome. So a
ledger that is never still is compared exactly, and what accounting has not done yet is no difference.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Final

from ingress.admin.finance.ledger_tables import (
    busy_organizations,
    examine,
    find_tables,
    look,
    rested,
    steps,
)
from ingress.admin.finance.usage_log import UsageLog
from ingress.admin.finance.verify import Difference, OrgKeys, OrgTables, compare, suspects
from schemas.ledger.errors import LedgerNotReady
from schemas.ledger.shards import Shards
from schemas.runtime.valkey.cold_store import ColdStore

_PAUSE_FIRST_S: Final = 0.25
_PAUSE_MAX_S: Final = 2.0
_ORGANIZATIONS_PER_STEP: Final = 256
_BALANCES_PER_CALL: Final = 16
_HOURS_PER_CALL: Final = 4


@dataclass(frozen=True, slots=True)
class Examination:
    """Some tables of one organization, read at one instant."""

    org: str
    wanted: OrgKeys
    tables: OrgTables


@dataclass(slots=True)
class Comparison:
    """What was found: organizations that were compared, and what differs with the tables that say so."""

    store: ColdStore
    shards: Shards
    log: UsageLog
    oldest_hour: str
    open_shards: set[int]
    """Those that are compared; one that closes meanwhile leaves them."""
    organizations: set[str] = field(default_factory=set)
    differences: list[Difference] = field(default_factory=list)
    examined: list[Examination] = field(default_factory=list)

    async def until_equal(self, deadline_s: float) -> None:
        """Compare; what was equal once is not asked for again."""
        loop = asyncio.get_running_loop()
        give_up_s, pause_s = loop.time() + deadline_s, _PAUSE_FIRST_S
        suspected = await self._look()
        while suspected:
            self.log.remember()
            self.examined = [each async for each in self._examine(suspected)]
            # What was booked by then gets its lines meanwhile.
            await asyncio.sleep(pause_s)
            await self.log.fold_to_end()
            found = (each for one in self.examined for each in self._compared(one))
            self.differences = list(dict.fromkeys(found))
            if loop.time() >= give_up_s:
                return
            unjudged = {one.org: one.wanted for one in self.unjudged}
            suspected = unjudged | suspects(self.differences)
            pause_s = min(2 * pause_s, _PAUSE_MAX_S)

    @property
    def unjudged(self) -> list[Examination]:
        """Those of organizations with more under way than can be read at one instant."""
        return [one for one in self.examined if one.tables.under_way is None]

    def _compared(self, one: Examination) -> list[Difference]:
        hours = self.log.sums_until(one.org, one.tables.reached, one.wanted.hours)
        return compare(one.org, one.tables, hours)

    async def _look(self) -> dict[str, OrgKeys]:
        """All tables; those that differ, and all balances of whoever is busy."""
        found = await find_tables(self.store, self.oldest_hour)
        busy = await busy_organizations(self.store, self.shards)
        orgs = sorted(found.keys() | busy | self.log.checkpoint.organizations())
        differing: list[Difference] = []
        for some in steps(orgs, _ORGANIZATIONS_PER_STEP):
            differing += await self._look_at(some, found)
        suspected = suspects(differing)
        for org in busy & self.organizations:
            hours = suspected.get(org, OrgKeys()).hours
            suspected[org] = OrgKeys(found.get(org, OrgKeys()).balances, hours)
        return suspected

    async def _look_at(self, orgs: Sequence[str], found: Mapping[str, OrgKeys]) -> list[Difference]:
        tables = {}
        for org in orgs:
            with self._while_open(org) as shard:
                if shard is not None:
                    tables[org] = await look(self.store, shard, org, found.get(org, OrgKeys()))
        self.organizations.update(tables)
        await self.log.fold_to_end()
        sums = self.log.checkpoint.sums(tables)
        return [each for org, table in tables.items() for each in compare(org, table, sums[org])]

    async def _examine(self, suspected: Mapping[str, OrgKeys]) -> AsyncIterator[Examination]:
        parts = [(org, part) for org, keys in suspected.items() for part in portions(keys)]
        async for ((org, wanted),) in rested(parts, 1):
            with self._while_open(org) as shard:
                if shard is not None:
                    tables = await examine(self.store, shard, org, wanted)
                    yield Examination(org, wanted, tables)

    @contextmanager
    def _while_open(self, org: str) -> Iterator[int | None]:
        """The shard of the organization, if it is compared; no more when it turns out to be closed."""
        shard = self.shards.of(org)
        try:
            yield shard if shard in self.open_shards else None
        except LedgerNotReady:
            self.open_shards.discard(shard)


def portions(wanted: OrgKeys) -> list[OrgKeys]:
    """The same tables, in parts that one call of the store reads; of none, what is under way."""
    balances = list(steps(wanted.balances, _BALANCES_PER_CALL))
    hours = list(steps(wanted.hours, _HOURS_PER_CALL))
    pairs = zip_longest(balances, hours, fillvalue=())
    return [OrgKeys(tuple(some), tuple(at)) for some, at in pairs] or [OrgKeys()]
