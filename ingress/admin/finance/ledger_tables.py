"""Reads the tables of the ledger, all of them, to verify it; it scans the store in small steps.

The store serves one command at a time, also those of clients that wait: a step is a few tables, and after it
the scan rests for as long as the step took.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product
from time import monotonic
from typing import Final, TypeAlias, TypeVar, cast

import msgspec

from ingress.admin.finance.verify import OrgKeys, OrgTables, tables_of
from schemas.ledger import calls, keys, states
from schemas.ledger.answers import Snapshot, Unbooked, UnbookedAttempt
from schemas.ledger.documents import Booking, ListUnbooked, TakeSnapshot
from schemas.ledger.shards import Shards
from schemas.runtime.valkey.cold_store import ColdStore, ask
from schemas.usage import read_cell

_TABLES: Final = "{*}|*|[btu]:*"
_KEYS_PER_SCAN: Final = 100
_TABLES_PER_STEP: Final = 4
_BALANCES_PER_STEP: Final = 10
_ATTEMPTS_PER_STEP: Final = 50
_REST_MAX_S: Final = 0.1
_OPEN_MAX: Final = 50_000
_OPEN_STATES: Final = frozenset(state.encode() for state in states.OPEN)

Holds: TypeAlias = tuple[Booking, ...]
T = TypeVar("T")


class _Held(msgspec.Struct, frozen=True):
    """The part of an attempt's holds that stands on balances."""

    balances: Holds = ()


# Not strict, because large integers stand there as decimal strings.
_HOLDS: Final = msgspec.json.Decoder(_Held, strict=False)


def steps(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """The items, so many at a time."""
    return (items[start : start + size] for start in range(0, len(items), size))


async def rested(items: Sequence[T], size: int) -> AsyncIterator[Sequence[T]]:
    """The items, so many at a time, with a rest after each step."""
    for some in steps(items, size):
        began_s = monotonic()
        yield some
        await asyncio.sleep(min(monotonic() - began_s, _REST_MAX_S))


async def find_tables(store: ColdStore, oldest_hour: str) -> dict[str, OrgKeys]:
    """The balances and the usage hours, from ``oldest_hour`` on, of every organization."""
    names = {
        name.decode(errors="replace")
        async for name in store.scan_iter(match=_TABLES, count=_KEYS_PER_SCAN)
    }
    return tables_of(names, oldest_hour)


async def read_tables(
    store: ColdStore, shards: Shards, found: Mapping[str, OrgKeys]
) -> dict[str, OrgTables]:
    """The tables of these organizations: a balance and its total at one instant, each hour at its own.

    Holds are read before and after them: those that changed meanwhile are left out.
    Raises ``LedgerNotReady`` while the ledger is rebuilt.
    """
    before = await _read_holds(store, shards)
    tables = {org: await _read(store, shards.of(org), org, wanted) for org, wanted in found.items()}
    after = await _read_holds(store, shards)
    if before is None or after is None:
        return tables
    return {
        org: replace(table, held=_sums(after.get(org, {})))
        if before.get(org, {}) == after.get(org, {})
        else table
        for org, table in tables.items()
    }


async def _read(store: ColdStore, shard: int, org: str, wanted: OrgKeys) -> OrgTables:
    balances: dict[str, Mapping[str, int]] = {}
    totals: dict[str, Mapping[str, int]] = {}
    # Asked at least once: its answer says whether the ledger may be believed at all.
    for some in list(steps(wanted.balances, _BALANCES_PER_STEP)) or [()]:
        document = TakeSnapshot(org=org, hours=(), balances=tuple(some))
        snapshot: Snapshot = await ask(store, calls.snapshot(shard, document))
        balances |= snapshot.balances
        totals |= snapshot.totals
    usage = await _usage(store, shard, org, wanted.hours)
    return OrgTables(balances=balances, totals=totals, usage=usage)


async def _usage(store: ColdStore, shard: int, org: str, hours: Sequence[str]) -> Counter[str]:
    """By measure, all of these hours."""
    usage: Counter[str] = Counter()
    async for some in rested(hours, _TABLES_PER_STEP):
        async with store.pipeline(transaction=False) as pipeline:
            for hour in some:
                pipeline.hgetall(keys.of_org(shard, org, keys.usage_suffix(hour)))
            for table in await pipeline.execute():
                for cell, amount in table.items():
                    usage[read_cell(cell.decode())[1]] += int(amount)
    return usage


async def _read_holds(store: ColdStore, shards: Shards) -> dict[str, dict[str, Holds]] | None:
    """What each open attempt holds, by organization and request; ``None`` of more than can be read."""
    members: list[bytes] = []
    for shard, queue in product(shards, (keys.EXPIRING, keys.INFLIGHT)):
        name = keys.of_shard(shard, queue)
        members += cast("list[bytes]", await store.zrange(name, 0, _OPEN_MAX))
        if len(members) > _OPEN_MAX:
            return None
    open_attempts = [member.decode().rpartition("|")[::2] for member in members]
    held: dict[str, dict[str, Holds]] = defaultdict(dict)
    async for asked in rested(open_attempts, _ATTEMPTS_PER_STEP):
        found = await attempt_fields(store, shards, asked, ("state", "holds"))
        for (org, request), (state, holds) in zip(asked, found, strict=True):
            if state in _OPEN_STATES and holds:
                held[org][request] = _HOLDS.decode(holds).balances
    return held


async def attempt_fields(
    store: ColdStore,
    shards: Shards,
    requests: Sequence[tuple[str, str]],
    fields: Sequence[str],
) -> list[list[bytes | None]]:
    """Fields of the attempts of these requests (organization, id); ``None`` where one has none."""
    async with store.pipeline(transaction=False) as pipeline:
        for org, request in requests:
            pipeline.hmget(keys.attempt(shards.of(org), org, request), *fields)
        return await pipeline.execute()


def _sums(held: Mapping[str, Holds]) -> Counter[str]:
    sums: Counter[str] = Counter()
    for holds in held.values():
        for hold in holds:
            sums[hold.key] += hold.amount
    return sums


async def list_unbooked(
    store: ColdStore, shards: Shards, until_ms: int, limit: int
) -> list[UnbookedAttempt]:
    """What was finished until then and is not booked, the oldest first."""
    wanted = ListUnbooked(until_ms=until_ms, limit=limit)
    entries: list[UnbookedAttempt] = []
    for shard in shards:
        found: Unbooked = await ask(store, calls.unbooked(shard, wanted))
        entries += found.entries
    return sorted(entries, key=lambda entry: entry.finished_ms)[:limit]


async def open_attempts(store: ColdStore, shards: Shards) -> dict[str, int]:
    """How many attempts hold an amount and are not over: waiting to start, and running."""

    async def count(queue: str) -> int:
        return sum([await store.zcard(keys.of_shard(shard, queue)) for shard in shards])

    return {"reserved": await count(keys.EXPIRING), "running": await count(keys.INFLIGHT)}
