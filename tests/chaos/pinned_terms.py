"""A limiter that dies between its admission and its produce, while price and budget change.

`python -m tests.chaos.pinned_terms`: what the ledger admitted before the kill runs at the price and
on the balances of then; what it had not seen is decided anew. The kill is placed by watching the
ledger: the limiter is stopped as soon as the first hold stands. Exit code 1 on a finding.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import signal
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp
import httpx

from tests.chaos.ceilings import UNLIMITED_RATE, Tenant
from tests.chaos.check import Findings, check, cost_nano_usd
from tests.chaos.copies import REQUESTS, read_all
from tests.chaos.evidence import Evidence
from tests.chaos.gathering import gather
from tests.chaos.load import Load
from tests.chaos.rig import Rig, model_body, running_rig
from tests.support.harness.foreign_store import open_foreign
from tests.support.harness.gateway_client import MODEL, GatewayClient
from tests.support.harness.ledger_view import key_of

ORG: Final = "pinned"
POSTS: Final = 150
BUDGET_NANO_USD: Final = 10**9
BALANCE: Final = key_of(ORG, "b:org/nano_usd:total")
HELD_WITHIN_S: Final = 30.0
ARRIVE_WITHIN_S: Final = 15.0
ROUNDS_MAX: Final = 5
CHANGED_BUDGETS: Final = [{"usd": "0.000001", "period": "day"}]


@dataclass(frozen=True)
class Pinned:
    """What became of the requests that were admitted and never dispatched before the kill."""

    admitted: frozenset[str]
    """Held in the ledger when the limiter died."""
    evidence: Evidence
    findings: Findings
    balance: dict[str, int]
    """The balance that the holds stood on, at rest."""

    @property
    def wrong(self) -> list[str]:
        """Sentences on whatever is not at the price, or not on the balance, of the admission."""
        calls = [c for c in self.evidence.calls if c.start.request_id in self.admitted]
        ran = {call.start.request_id for call in calls}
        spent = sum(map(cost_nano_usd, calls))
        lines = [line for line in self.evidence.usage if line.request_id in self.admitted]
        booked = sum(line.cost_nano_usd or 0 for line in lines)
        problems = {
            f"never ran: {sorted(self.admitted - ran)[:3]}": self.admitted - ran,
            f"usage lines say {booked}, at the pinned price it is {spent}": booked != spent,
            f"settled {self.balance.get('settled')} of {spent}": self.balance["settled"] != spent,
            f"reserved {self.balance.get('reserved')}": self.balance["reserved"],
        }
        return [problem for problem, holds in problems.items() if holds]


async def kill_between(rig: Rig) -> Pinned:
    """Post, stop the limiter at the first hold, change everything, let a successor go on."""
    timeout = aiohttp.ClientTimeout(total=None)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        grants = [grant for grant in rig.grants if grant.org == ORG]
        client = GatewayClient(session, rig.stack.api_url)
        load = Load(client, grants, 10_000.0, random.Random(1), ("sync",))
        for _ in range(ROUNDS_MAX):
            pid = rig.pid_of("limiter_worker")
            assert pid is not None
            os.kill(pid, signal.SIGSTOP)
            known = await asyncio.to_thread(_count, rig)
            sending = load.post(POSTS)
            await _arrived(rig, known + POSTS)
            await asyncio.to_thread(_stop_at_first_hold, rig, pid)
            admitted = await asyncio.to_thread(_held, rig)
            dispatched = await asyncio.to_thread(_dispatched, rig)
            if admitted - dispatched:
                break
            os.kill(pid, signal.SIGCONT)
            await asyncio.gather(*sending)
        async with rig.away("limiter_worker"):
            await asyncio.to_thread(_change, rig)
        await asyncio.gather(*sending)
    evidence = await asyncio.to_thread(gather, rig, load.history)
    with open_foreign(rig.stack.ledger_url) as store:
        stored: Any = store.hgetall(BALANCE)
    balance = {name.decode(): int(amount) for name, amount in stored.items()}
    return Pinned(frozenset(admitted - dispatched), evidence, check(evidence), balance)


def _count(rig: Rig) -> int:
    return len(read_all(rig.stack.kafka, REQUESTS))


async def _arrived(rig: Rig, count: int) -> None:
    """Until the log has what was posted."""
    end_s = time.monotonic() + ARRIVE_WITHIN_S
    while await asyncio.to_thread(_count, rig) < count:
        assert time.monotonic() < end_s, "the requests did not reach the log"


def _stop_at_first_hold(rig: Rig, pid: int) -> None:
    """The limiter goes on, and is stopped again as soon as anything is reserved."""
    with open_foreign(rig.stack.ledger_url) as store:
        os.kill(pid, signal.SIGCONT)
        end_s = time.monotonic() + HELD_WITHIN_S
        while time.monotonic() < end_s:
            if int(store.hget(BALANCE, "reserved") or 0) > 0:
                break
    os.kill(pid, signal.SIGSTOP)


def _held(rig: Rig) -> set[str]:
    """Requests of the organization that are admitted and not started."""
    found: set[str] = set()
    with open_foreign(rig.stack.ledger_url) as store:
        for key in store.scan_iter(key_of(ORG, "a:*"), count=1_000):
            if store.hget(key, "state") == b"RESERVED":
                found.add(key.decode().rpartition("|a:")[2])
    return found


def _dispatched(rig: Rig) -> set[str]:
    records = read_all(rig.stack.kafka, "inference.dispatch.v1")
    return {(record.key() or b"").decode() for record in records}


def _change(rig: Rig) -> None:
    """The price times ten; the budget of all time becomes one of the day that has no room."""
    with httpx.Client(base_url=rig.stack.admin_url, timeout=30, trust_env=False) as admin:
        dear = model_body(rig.backends, times=10)
        admin.put(f"/models/{MODEL}", json=dear).raise_for_status()
        limits = {**UNLIMITED_RATE, "budgets": CHANGED_BUDGETS, "on_limit": "reject"}
        admin.put(f"/orgs/{ORG}", json={"limits": limits}).raise_for_status()


def main() -> int:
    """Run, report."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--folder", type=Path, help="keeps logs and state there")
    folder = options.parse_args().folder or Path(tempfile.mkdtemp(prefix="tallygate-pinned-"))
    folder.mkdir(parents=True, exist_ok=True)
    with running_rig(folder, (Tenant(ORG, "nano_usd", BUDGET_NANO_USD),)) as rig:
        pinned = asyncio.run(kill_between(rig))
    print(
        f"admitted, not dispatched and redelivered after price and budget changed:"
        f" {len(pinned.admitted)} of {POSTS}; at another price or balance: {len(pinned.wrong)}"
        f" {'; '.join(pinned.wrong)}"
    )
    print(f"balance then: {pinned.balance}\n{pinned.findings}")
    is_clean = bool(pinned.admitted) and not pinned.wrong and pinned.findings.is_clean
    return 0 if is_clean else 1


if __name__ == "__main__":
    sys.exit(main())
