"""Reads the tables of the ledger, all of them, to verify it; it scans the store in small steps.

The store serves one command at a time, also those of clients that wait: a step is a few tables, and after it
the scan rests for as long as the step took. Where a look finds a difference, or something is under way, an
examination reads all of that at one instant.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from time import monotonic
from typing import Final, TypeVar, cast

from ingress.admin.finance.hour_sums import sums_of_table
from ingress.admin.finance.reconcile import Outcome, Standing
from ingress.admin.finance.under_way import tables_of_examined
from ingress.admin.finance.verify import OrgKeys, OrgTables, tables_of
from schemas.ledger import calls, keys
from schemas.ledger.answers import Examined, Snapshot, Unbooked, UnbookedAttempt
from schemas.ledger.documents import Examine, ListUnbooked, TakeSnapshot
from schemas.ledger.shards import Shards
from schemas.runtime.valkey.cold_store import ColdStore, ask

_TABLES: Final = "{*}|*|[btu]:*"
_KEYS_PER_SCAN: Final = 100
_TABLES_PER_STEP: Final = 4
_BALANCES_PER_STEP: Final = 10
_ATTEMPTS_PER_STEP: Final = 100
_MEMBERS_PER_STEP: Final = 1_000
_REST_MAX_S: Final = 0.1

T = TypeVar("T")


def steps(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """The items, so many at a time."""
    return (items[start : start + size] for start in range(0, len(items), size))


async def rested(items: Sequence[T], size: int) -> AsyncIterator[Sequence[T]]:
    """The items, so many at a time, with a rest after each step."""
    for some in steps(items, size):
        began_s = monotonic()
        yield some
        await _rest(began_s)


async def _rest(began_s: float) -> None:
    await asyncio.sleep(min(monotonic() - began_s, _REST_MAX_S))


@dataclass(frozen=True, slots=True)
class ShardState:
    """What a shard says of itself."""

    is_ready: bool
    is_complete: bool
    why: str


async def shard_states(store: ColdStore, shards: Shards) -> dict[int, ShardState]:
    """Of every shard; one that has no `meta` is closed."""
    states = {}
    for shard in shards:
        stored = cast("dict[bytes, bytes]", await store.hgetall(keys.of_shard(shard, keys.META)))
        meta = {name.decode(): value.decode() for name, value in stored.items()}
        why = meta.get("why", "") if meta else "it is empty"
        is_complete = meta.get("complete", "1") == "1"
        states[shard] = ShardState(meta.get("ready") == "1", is_complete, why)
    return states


async def find_tables(store: ColdStore, oldest_hour: str) -> dict[str, OrgKeys]:
    """The balances and the usage hours, from ``oldest_hour`` on, of every organization."""
    names: set[str] = set()
    began_s = monotonic()
    async for name in store.scan_iter(match=_TABLES, count=_KEYS_PER_SCAN):
        names.add(cast("bytes", name).decode(errors="replace"))
        if len(names) % _KEYS_PER_SCAN == 0:
            await _rest(began_s)
            began_s = monotonic()
    return tables_of(names, oldest_hour)


async def busy_organizations(store: ColdStore, shards: Shards) -> set[str]:
    """Those with a request that runs, waits, or is not booked."""
    busy: set[str] = set()
    for shard, queue in product(shards, (keys.EXPIRING, keys.INFLIGHT, keys.FINISHED)):
        name, start = keys.of_shard(shard, queue), 0
        while True:
            began_s, end = monotonic(), start + _MEMBERS_PER_STEP
            members = cast("list[bytes]", await store.zrange(name, start, end - 1))
            busy.update(member.decode().rpartition("|")[0] for member in members)
            if len(members) < _MEMBERS_PER_STEP:
                break
            start = end
            await _rest(began_s)
    return busy


async def look(store: ColdStore, shard: int, org: str, wanted: OrgKeys) -> OrgTables:
    """These tables of an organization: a balance and its total at one instant, each hour at its own.

    It takes it that nothing is under way. Raises ``LedgerNotReady`` while the shard is closed.
    """
    balances: dict[str, Mapping[str, int]] = {}
    totals: dict[str, Mapping[str, int]] = {}
    async for some in rested(wanted.balances, _BALANCES_PER_STEP):
        document = TakeSnapshot(org=org, hours=(), balances=tuple(some))
        snapshot: Snapshot = await ask(store, calls.snapshot(shard, document))
        balances |= snapshot.balances
        totals |= snapshot.totals
    hours = {}
    async for some in rested(wanted.hours, _TABLES_PER_STEP):
        async with store.pipeline(transaction=False) as pipeline:
            for hour in some:
                pipeline.hgetall(_hour_key(shard, org, hour))
            for hour, table in zip(some, await pipeline.execute(), strict=True):
                hours[hour] = sums_of_table(_numbers(table))
    return OrgTables(balances=balances, totals=totals, hours=hours)


async def examine(store: ColdStore, shard: int, org: str, wanted: OrgKeys) -> OrgTables:
    """These tables, and what is under way, at one instant. Raises ``LedgerNotReady`` as ``look`` does."""
    document = Examine(org=org, hours=wanted.hours, balances=wanted.balances)
    examined: Examined = await ask(store, calls.examine(shard, document))
    return tables_of_examined(examined)


def _hour_key(shard: int, org: str, hour: str) -> str:
    return keys.of_org(shard, org, keys.usage_suffix(hour))


def _numbers(table: Mapping[bytes, bytes]) -> dict[str, int]:
    return {cell.decode(): int(amount) for cell, amount in table.items()}


async def known_requests(
    store: ColdStore, shards: Shards, outcomes: Iterable[Outcome]
) -> dict[str, Standing]:
    """What the ledger knows of the requests of these outcomes, by request."""
    wanted = [(o.org, o.request_id) for o in outcomes if not o.is_correction]
    known: dict[str, Standing] = {}
    async for asked in rested(wanted, _ATTEMPTS_PER_STEP):
        async with store.pipeline(transaction=False) as pipeline:
            for org, request in asked:
                pipeline.hmget(keys.attempt(shards.of(org), org, request), "state", "booked")
            found = await pipeline.execute()
        for (_, request), (state, booked) in zip(asked, found, strict=True):
            known[request] = Standing((state or b"").decode(), (booked or b"").decode())
    return known


async def list_unbooked(
    store: ColdStore, shards: Iterable[int], until_ms: int, limit: int
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
