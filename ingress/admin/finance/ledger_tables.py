"""Reads the tables of the ledger, all of them, to verify it; it scans the store."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import replace
from typing import TypeAlias

import msgspec

from ingress.admin.finance.verify import OrgKeys, OrgTables, tables_of
from schemas.ledger import calls, keys
from schemas.ledger.answers import Snapshot, UnbookedAttempt
from schemas.ledger.documents import Booking, ListUnbooked, TakeSnapshot
from schemas.runtime.valkey.store import StoreConnection

_TABLES = "{*}:[btu]:*"
_KEYS_PER_SCAN = 2_000
_OPEN_MAX = 50_000
_ATTEMPTS_AT_ONCE = 500
_OPEN_STATES = (b"RESERVED", b"RUNNING")

Holds: TypeAlias = tuple[Booking, ...]


class _Held(msgspec.Struct, frozen=True):
    """The part of an attempt's holds that stands on balances."""

    balances: Holds = ()


# Not strict, because large integers stand there as decimal strings.
_HOLDS = msgspec.json.Decoder(_Held, strict=False)


async def find_tables(store: StoreConnection, oldest_hour: str) -> dict[str, OrgKeys]:
    """The balances and the usage hours, from ``oldest_hour`` on, of every organization."""
    names: set[str] = set()
    cursor = b"0"
    while True:
        cursor, found = await store.call("SCAN", cursor, "MATCH", _TABLES, "COUNT", _KEYS_PER_SCAN)
        names |= {name.decode(errors="replace") for name in found}
        if cursor == b"0":
            return tables_of(names, oldest_hour)


async def read_tables(store: StoreConnection, found: Mapping[str, OrgKeys]) -> dict[str, OrgTables]:
    """The tables of every organization, each at one instant of its own.

    Holds are read before and after them: those that changed meanwhile are left out.
    Raises ``StoreUnavailable``, and ``LedgerNotReady`` while the ledger is rebuilt.
    """
    before = await _read_holds(store)
    tables = {org: await _read(store, org, wanted) for org, wanted in found.items()}
    after = await _read_holds(store)
    if before is None or after is None:
        return tables
    return {
        org: replace(table, held=_sums(after.get(org, {})))
        if before.get(org, {}) == after.get(org, {})
        else table
        for org, table in tables.items()
    }


async def _read(store: StoreConnection, org: str, wanted: OrgKeys) -> OrgTables:
    document = TakeSnapshot(org=org, hours=wanted.hours, balances=wanted.balances)
    call = calls.snapshot(document)
    snapshot: Snapshot = call.decode(await store.call(*call.command))
    usage: Counter[str] = Counter()
    for table in snapshot.usage.values():
        for cell, amount in table.items():
            usage[cell.rpartition("\t")[2]] += amount
    return OrgTables(balances=snapshot.balances, totals=snapshot.totals, usage=usage)


async def _read_holds(store: StoreConnection) -> dict[str, dict[str, Holds]] | None:
    """What each open attempt holds, by organization and request; ``None`` of more than can be read."""
    members: list[bytes] = []
    for queue in (keys.EXPIRING, keys.INFLIGHT):
        members += await store.call("ZRANGE", queue, 0, _OPEN_MAX)
    if len(members) > _OPEN_MAX:
        return None
    open_attempts = [member.decode().rpartition("|")[::2] for member in members]
    held: dict[str, dict[str, Holds]] = defaultdict(dict)
    for start in range(0, len(open_attempts), _ATTEMPTS_AT_ONCE):
        asked = open_attempts[start : start + _ATTEMPTS_AT_ONCE]
        replies = await asyncio.gather(
            *(store.call("HMGET", keys.attempt(*one), "state", "holds") for one in asked)
        )
        for (org, request), (state, holds) in zip(asked, replies, strict=True):
            if state in _OPEN_STATES and holds:
                held[org][request] = _HOLDS.decode(holds).balances
    return held


def _sums(held: Mapping[str, Holds]) -> Counter[str]:
    sums: Counter[str] = Counter()
    for holds in held.values():
        for hold in holds:
            sums[hold.key] += hold.amount
    return sums


async def list_unbooked(store: StoreConnection, until_ms: int, limit: int) -> list[UnbookedAttempt]:
    """What was finished until then and is not booked, the oldest first."""
    call = calls.unbooked(ListUnbooked(until_ms=until_ms, limit=limit))
    return list(call.decode(await store.call(*call.command)).entries)


async def open_attempts(store: StoreConnection) -> dict[str, int]:
    """How many attempts hold an amount and are not over: waiting to start, and running."""
    reserved = store.call("ZCARD", keys.EXPIRING)
    running = store.call("ZCARD", keys.INFLIGHT)
    return {"reserved": await reserved, "running": await running}
