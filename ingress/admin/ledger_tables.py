"""Reads the tables of the ledger, all of them, to verify it; it scans the store."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from ingress.admin.verify import OrgKeys, OrgTables, tables_of
from schemas import keys
from schemas.runtime.ledger import calls
from schemas.runtime.ledger.answers import Snapshot
from schemas.runtime.ledger.documents import TakeSnapshot
from schemas.runtime.store import StoreConnection

_TABLES = "{*}:[btu]:*"
_KEYS_PER_SCAN = 2_000


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

    Raises ``StoreUnavailable``, and ``LedgerNotReady`` while the ledger is rebuilt.
    """
    return {org: await _read(store, org, wanted) for org, wanted in found.items()}


async def _read(store: StoreConnection, org: str, wanted: OrgKeys) -> OrgTables:
    document = TakeSnapshot(org=org, hours=wanted.hours, balances=wanted.balances)
    call = calls.snapshot(document)
    snapshot: Snapshot = call.decode(await store.call(*call.command))
    usage: Counter[str] = Counter()
    for table in snapshot.usage.values():
        for cell, amount in table.items():
            usage[cell.rpartition("\t")[2]] += amount
    return OrgTables(
        settled={b: amounts.get("settled", 0) for b, amounts in snapshot.balances.items()},
        booked={b: amounts.get("settled", 0) for b, amounts in snapshot.totals.items()},
        usage=usage,
    )


async def open_attempts(store: StoreConnection) -> dict[str, int]:
    """How many attempts hold an amount and are not over: waiting to start, and running."""
    reserved = store.call("ZCARD", keys.EXPIRING)
    running = store.call("ZCARD", keys.INFLIGHT)
    return {"reserved": await reserved, "running": await running}
