"""A field of the ledger changed by hand: two snapshots later `ledger verify` still names it.

`python -m tests.chaos.tampered`: organizations spend a little, the sums agree, then one field of each
is changed in the store, one of each kind. Snapshots are copies of what is under test, so they must not
make a lie the truth. Exit code 1 when a change is not named, or without the requests booked there since the sums
were equal, or when anything else is named.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp
import httpx

from tests.chaos.ceilings import Tenant
from tests.chaos.copies import read_all
from tests.chaos.load import Load
from tests.chaos.rig import Rig, running_rig
from tests.support.harness.foreign_store import open_foreign
from tests.support.harness.gateway_client import GatewayClient
from tests.support.harness.ledger_view import key_of

REQUESTS_EACH: Final = 5
SNAPSHOTS: Final = 2
SNAPSHOT_PERIOD_S: Final = 10.0
VERIFY_DEADLINE_S: Final = 5.0
AGREED_WITHIN_S: Final = 30.0
AMOUNT: Final = 7
BALANCE_FIELDS: Final = ("settled", "reserved", "over", "late")


@dataclass(frozen=True)
class Change:
    """A field of a hash of one organization."""

    org: str
    what: str
    pattern: str
    """Of the key, behind the organization."""
    field: str | None = None
    """``None`` for the first field that is a positive number."""

    @property
    def has_requests(self) -> bool:
        """Whether requests stand behind the sum: nothing is held at the end."""
        return self.field != "reserved"

    def is_named_by(self, differences: list[dict[str, Any]]) -> bool:
        """Whether these say all that can be said."""
        told = [each["explanation"]["requests"] for each in differences]
        return bool(told) and (any(told) or not self.has_requests)


CHANGES: Final = (
    *(
        Change(f"tampered-{name}", f"balance {name}", "b:org/nano_usd:total", name)
        for name in BALANCE_FIELDS
    ),
    Change("tampered-month", "tracked balance settled", "b:org/tokens:*", "settled"),
    Change("tampered-totals", "totals of the log", "t:org/nano_usd:total"),
    Change("tampered-usage", "usage hour", "u:*"),
)


async def tamper(rig: Rig) -> tuple[list[tuple[Change, list[Any]]], list[Any]]:
    """Spend, change, wait for two snapshots with traffic between; each change, what names it, and what else differs."""
    async with aiohttp.ClientSession() as session:
        client = GatewayClient(session, rig.stack.api_url)
        grants = [grant for grant in rig.grants if grant.org.startswith("tampered-")]
        load = Load(client, grants, 1.0, random.Random(1), ("sync",))
        await asyncio.gather(*load.post(REQUESTS_EACH * len(grants)))
        agreed = await asyncio.to_thread(_verify, rig, AGREED_WITHIN_S)
        assert agreed["difference"] == 0, agreed
        for change in CHANGES:
            await asyncio.to_thread(_apply, rig, change)
        for _ in range(SNAPSHOTS):
            # A snapshot is written of what was booked, so something has to be.
            await asyncio.gather(*load.post(len(grants)))
            await asyncio.sleep(1.5 * SNAPSHOT_PERIOD_S)
        snapshots = len(await asyncio.to_thread(read_all, rig.stack.kafka, "usage.tables.v1"))
        print(f"{snapshots} records of snapshots")
    verdict = await asyncio.to_thread(_verify, rig, VERIFY_DEADLINE_S)
    named = [
        (change, [d for d in verdict["differences"] if d["org"] == change.org])
        for change in CHANGES
    ]
    changed = {change.org for change in CHANGES}
    return named, [d for d in verdict["differences"] if d["org"] not in changed]


def _verify(rig: Rig, deadline_s: float) -> dict[str, Any]:
    answer = httpx.get(
        f"{rig.stack.admin_url}/ledger/verify",
        params={"deadline_s": deadline_s},
        timeout=60 + deadline_s,
        trust_env=False,
    )
    verdict: dict[str, Any] = answer.raise_for_status().json()
    return verdict


def _apply(rig: Rig, change: Change) -> None:
    with open_foreign(rig.stack.ledger_url) as store:
        (key,) = store.scan_iter(key_of(change.org, change.pattern), count=10_000)
        stored: Any = store.hgetall(key)
        name = change.field or next(_numbers(stored))
        store.hset(key, name, int(stored.get(name.encode(), 0)) + AMOUNT)


def _numbers(stored: dict[bytes, bytes]) -> Iterator[str]:
    return (name.decode() for name, value in stored.items() if value.isdigit() and int(value))


def main() -> int:
    """Run, report."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--folder", type=Path, help="keeps logs and state there")
    folder = options.parse_args().folder or Path(tempfile.mkdtemp(prefix="tallygate-tampered-"))
    folder.mkdir(parents=True, exist_ok=True)
    tenants = tuple(Tenant(change.org, "nano_usd", 10**9) for change in CHANGES)
    with running_rig(folder, tenants) as rig:
        found, others = asyncio.run(tamper(rig))
    are_named = not others
    for change, named in found:
        is_named = change.is_named_by(named)
        print(
            f"{change.what:<26}{'named' if is_named else 'NOT NAMED':<11}{json.dumps(named)[:300]}"
        )
        are_named &= is_named
    print(f"others that differ: {json.dumps(others)}")
    return 0 if are_named else 1


if __name__ == "__main__":
    sys.exit(main())
