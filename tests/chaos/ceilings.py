"""Organizations whose limits stand in the way all the time, and who watches that none is passed.

A limit only ever rises, a little at a time, so that there is never room for more than a few requests:
what is raised is noted before the gateway hears of it. Invariant of the watch, at every look:
settled + reserved <= the limit as noted then.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

import aiohttp
import redis.asyncio
import redis.exceptions
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.chaos.evidence import Ceiling, Unit
from tests.support.harness.ledger_view import key_of

LOOK_EVERY_S: Final = 0.1
RAISE_EVERY_S: Final = 2.0
ANSWER_WITHIN_S: Final = 3.0
UNLIMITED_RATE: Final = {"requests_per_s": 100_000, "burst": 100_000}


@dataclass
class Tenant:
    """An organization with one limit. `step` is what the limit rises by every `RAISE_EVERY_S`.

    Units: nano-USD, tokens, requests, or calls at once.
    """

    org: str
    unit: Unit
    limit: int
    step: int = 0
    on_limit: str = "reject"

    @property
    def limits(self) -> dict[str, Any]:
        """The organization's limits as the admin API takes them."""
        return {**UNLIMITED_RATE, "on_limit": self.on_limit, **self._own_limit()}

    def _own_limit(self) -> dict[str, Any]:
        if self.unit == "nano_usd":
            return {"budgets": [{"usd": f"{self.limit / 10**9:.9f}", "period": "total"}]}
        if self.unit == "at_once":
            return {"concurrency": self.limit}
        return {"quotas": [{"amount": self.limit, "unit": self.unit, "period": "month"}]}

    @property
    def ceiling(self) -> Ceiling:
        return Ceiling(self.org, self.unit, self.limit)

    @property
    def balance(self) -> str | None:
        """The ledger's key of what the limit is on; places of calls at once have no balance."""
        if self.unit == "at_once":
            return None
        period = "total" if self.unit == "nano_usd" else time.strftime("%Y-%m", time.gmtime())
        return key_of(self.org, f"b:org/{self.unit}:{period}")

    def breach(self, settled: int, reserved: int) -> str | None:
        """What is wrong with a look at the balance, if anything is."""
        if settled + reserved > self.limit or reserved < 0:
            return f"{self.org}: settled {settled}, reserved {reserved}, limit {self.limit}"
        return None


def tight_tenants() -> tuple[Tenant, ...]:
    """Budgets, quotas and concurrency for about a third of what the load asks for.

    One budget never rises: it is spent in the middle of a run.
    """
    return (
        Tenant("tight-budget", "nano_usd", 1_500_000, step=200_000),
        Tenant("tight-budget-waiting", "nano_usd", 1_500_000, step=300_000, on_limit="defer"),
        Tenant("tight-spent", "nano_usd", 12_000_000),
        Tenant("tight-tokens", "tokens", 2_000, step=150),
        Tenant("tight-requests", "requests", 3, step=4),
        Tenant("tight-at-once", "at_once", 1),
    )


@dataclass
class Watch:
    """Raises the limits and looks at the balances beside a load, whatever is killed meanwhile."""

    tenants: Sequence[Tenant]
    admin_url: str
    ledger_url: str
    haste: int = 1
    """Factor of the steps: more than 1 once the load is over, for what still waits."""
    looks: int = 0
    breaches: list[str] = field(default_factory=list)

    async def run(self) -> None:
        """Until it is cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._raise_all())
            tasks.create_task(self._look_all())

    async def _raise_all(self) -> None:
        timeout = aiohttp.ClientTimeout(total=ANSWER_WITHIN_S)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            while True:
                await asyncio.sleep(RAISE_EVERY_S)
                for tenant in self.tenants:
                    if tenant.step:
                        tenant.limit += tenant.step * self.haste
                        await self._put(session, tenant)

    async def _put(self, session: aiohttp.ClientSession, tenant: Tenant) -> None:
        """Tell the gateway; where nobody answers, the next round tells a higher limit."""
        url, body = f"{self.admin_url}/orgs/{tenant.org}", {"limits": tenant.limits}
        try:
            async with session.put(url, json=body) as answer:
                await answer.read()
        except (aiohttp.ClientError, OSError, TimeoutError):
            return

    async def _look_all(self) -> None:
        """A connection fails at once, so that a killed store costs one look and no more."""
        store: Any = redis.asyncio.Redis.from_url(
            self.ledger_url, retry=Retry(NoBackoff(), 0), socket_timeout=ANSWER_WITHIN_S
        )
        try:
            while True:
                await asyncio.sleep(LOOK_EVERY_S)
                with suppress(redis.exceptions.RedisError, OSError):
                    await self._look(store)
        finally:
            await store.aclose()

    async def _look(self, store: Any) -> None:
        for tenant in self.tenants:
            if tenant.balance is not None:
                settled, reserved = await store.hmget(tenant.balance, "settled", "reserved")
                # The limit is read after the balance: it only rises, and is noted before it is told.
                breach = tenant.breach(int(settled or 0), int(reserved or 0))
                self.breaches += [breach] if breach else []
                self.looks += 1
