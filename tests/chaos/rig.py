"""A stack to be crashed: finds the process of each role, kills it by pid, waits for its successor.

Invariant: only descendants of the stack's own process are ever signalled.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import time
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.chaos.ceilings import UNLIMITED_RATE, Tenant
from tests.chaos.check import INPUT_NANO_USD_PER_TOKEN, OUTPUT_NANO_USD_PER_TOKEN
from tests.chaos.evidence import LedgerState
from tests.chaos.stores import held as held_in
from tests.chaos.stores import ledger_servers, metas
from tests.support.fakes.call_log import Call, read_calls
from tests.support.fakes.running_backend import RunningBackend, running_backend
from tests.support.harness.gateway_client import MODEL
from tests.support.harness.grants import Grant
from tests.support.harness.running_stack import RunningStack, descendants, running_stack
from tests.support.harness.store_faults import StoreFaults
from tests.support.harness.store_servers import OfStack

WORKERS = ("limiter_worker", "dispatcher", "accounting", "ingress", "batches", "admin")
STORES = ("kafka", "ledger", "bus")
ROLES = (*WORKERS, *STORES)
FLUSHED = "flushed ledger"
"""No process: all that the ledger knows is gone, and has to be made again."""
ORGS = 4
RETURN_DEADLINE_S = 30.0
VERIFY_DEADLINE_S = 30.0
LIMITS = {
    **UNLIMITED_RATE,
    "budgets": [{"usd": "1000", "period": "total"}],
    "on_limit": "reject",
}


@dataclass(frozen=True)
class Strike:
    """One kill -9, and when the successor was there."""

    role: str
    at_s: float
    back_after_s: float | None
    """``None`` when nobody had come back within the deadline."""


@dataclass(frozen=True)
class Rig:
    """A running stack and its backends."""

    stack: RunningStack
    backends: tuple[RunningBackend, ...]
    grants: tuple[Grant, ...]
    state_dir: Path
    tenants: tuple[Tenant, ...] = ()
    """The organizations among them whose limits stand in the way."""

    def pid_of(self, role: str) -> int | None:
        """The pid of the role's living process; `None` between a death and the restart."""
        return next(iter(self.pids_of(role)), None)

    def pids_of(self, role: str) -> list[int]:
        """The pids of all living processes of the role."""
        marks = [_MARKS.get(name) or f":{self.port_of(name)}" for name in self._names(role)]
        ours = sorted(descendants(self.stack.process.pid))
        return [pid for pid in ours if any(mark in _command_of(pid) for mark in marks)]

    def _names(self, role: str) -> list[str]:
        """Its processes' names in the stack: several where the ledger is a cluster."""
        if role != "ledger":
            return [role]
        return [server.name for server in ledger_servers(self.state_dir)]

    @asynccontextmanager
    async def away(self, role: str) -> AsyncIterator[None]:
        """The role is killed and stays away: its supervisor sleeps, so nobody starts a successor."""
        os.kill(self.stack.process.pid, signal.SIGSTOP)
        try:
            for pid in self.pids_of(role):
                os.kill(pid, signal.SIGKILL)
            yield
        finally:
            os.kill(self.stack.process.pid, signal.SIGCONT)
        for name in self._names(role):
            assert await self._living(name) is not None, f"{name} did not come back"

    async def strike(self, role: str) -> Strike:
        """Kill -9 the role's process, or any server of a cluster; returns when a successor runs, ready or not.
        A flushed ledger is back when every shard is whole."""
        if role == FLUSHED:
            return await self._flush()
        name = random.choice(self._names(role))
        pid = await self._living(name)
        assert pid is not None, f"{name} did not come back from its last end"
        os.kill(pid, signal.SIGKILL)
        at_s = time.monotonic()
        is_back = await self._living(name, other_than=pid) is not None
        return Strike(role, at_s, time.monotonic() - at_s if is_back else None)

    async def _flush(self) -> Strike:
        """Once what was lost before is whole again, so that it is a loss of its own."""
        shards = (await asyncio.to_thread(metas, ledger_servers(self.state_dir))).keys()
        await self._whole(shards)
        at_s = time.monotonic()
        await StoreFaults(OfStack(self.stack)).flush()
        is_back = await self._whole(shards)
        return Strike(FLUSHED, at_s, time.monotonic() - at_s if is_back else None)

    async def _whole(self, shards: Collection[int]) -> bool:
        """Whether every shard is whole within the deadline."""
        end_s, servers = time.monotonic() + RETURN_DEADLINE_S, ledger_servers(self.state_dir)
        while time.monotonic() < end_s:
            found = await asyncio.to_thread(metas, servers)
            if found.keys() == set(shards) and all(each.is_complete for each in found.values()):
                return True
            await asyncio.sleep(0.1)
        return False

    async def _living(self, role: str, other_than: int | None = None) -> int | None:
        """The role's process once there is one, within the deadline."""
        end_s = time.monotonic() + RETURN_DEADLINE_S
        while time.monotonic() < end_s:
            pid = self.pid_of(role)
            if pid not in (None, other_than):
                return pid
            await asyncio.sleep(0.1)
        return None

    def calls(self) -> tuple[Call, ...]:
        """What really happened at the backends."""
        return read_calls(*(backend.log for backend in self.backends))

    def ledger_at_rest(self) -> LedgerState:
        """What the ledger still holds, and its difference to the log once both stood still."""
        parameters = {"deadline_s": VERIFY_DEADLINE_S}
        timeout_s = 2 * VERIFY_DEADLINE_S
        answer = httpx.get(
            f"{self.stack.admin_url}/ledger/verify",
            params=parameters,
            timeout=timeout_s,
            trust_env=False,
        )
        held = held_in(ledger_servers(self.state_dir))
        if answer.status_code == httpx.codes.SERVICE_UNAVAILABLE:
            return LedgerState(-1, held, (answer.text,))
        verified = answer.raise_for_status().json()
        held |= {f"{state} attempts": n for state, n in verified["open_attempts"].items()}
        named = tuple(json.dumps(difference) for difference in verified["differences"])
        return LedgerState(verified["difference"], held, named)

    def port_of(self, name: str) -> int:
        """Where a process of the stack answers."""
        known = json.loads((self.state_dir / "stack.json").read_text())
        return int(known["ports"][name])


_MARKS = {
    "kafka": " kafka.Kafka ",
    **{role: f" -m {role} " for role in WORKERS},
    "admin": " -m ingress.admin ",
    "batches": " -m ingress.batches ",
}


@contextmanager
def running_rig(
    folder: Path,
    tenants: tuple[Tenant, ...] = (),
    time_scale: int = 1,
    replicas: Mapping[str, int] | None = None,
    environment: Mapping[str, str] | None = None,
    options: Sequence[str] = (),
    program: Sequence[str] = (),
) -> Iterator[Rig]:
    """A stack with two fake backends, a priced model, organizations with wide budgets, and tenants.

    All times of the gateway are divided by `time_scale`. What else is given is for `running_stack`.
    """
    divided = {"TALLYGATE_TEST": "1", "TALLYGATE_TEST_TIME_SCALE": str(time_scale)}
    environment = {**divided, **(environment or {})}
    with ExitStack() as running:
        backends = tuple(
            running.enter_context(running_backend(name, folder / f"{name}.jsonl"))
            for name in ("fake-a", "fake-b")
        )
        state_dir = folder / "state"
        stack = running.enter_context(
            running_stack(state_dir, backends, replicas, environment, options, program=program)
        )
        grants = prepare(stack, backends, tenants)
        yield Rig(stack, backends, grants, state_dir, tenants)


def model_body(backends: tuple[RunningBackend, ...], *, times: int = 1) -> dict[str, Any]:
    """The run's model at its price, or at a multiple of it."""
    return {
        "backends": [{"backend": backend.name, "weight": 1} for backend in backends],
        "input_usd_per_mtok": str(times * INPUT_NANO_USD_PER_TOKEN / 1_000),
        "output_usd_per_mtok": str(times * OUTPUT_NANO_USD_PER_TOKEN / 1_000),
        "default_max_output_tokens": 256,
    }


def prepare(
    stack: RunningStack, backends: tuple[RunningBackend, ...], tenants: tuple[Tenant, ...]
) -> tuple[Grant, ...]:
    """Give a new stack its priced model, its organizations and a key of each."""
    with httpx.Client(base_url=stack.admin_url, timeout=30, trust_env=False) as admin:
        admin.put(f"/models/{MODEL}", json=model_body(backends)).raise_for_status()
        limits = {f"chaos-{number}": LIMITS for number in range(ORGS)}
        limits |= {tenant.org: tenant.limits for tenant in tenants}
        return tuple(_grant(admin, org, its) for org, its in limits.items())


def _grant(admin: httpx.Client, org: str, limits: dict[str, Any]) -> Grant:
    admin.put(f"/orgs/{org}", json={"limits": limits}).raise_for_status()
    made = admin.post("/keys", json={"org": org, "name": "chaos", "limits": UNLIMITED_RATE})
    key = made.raise_for_status().json()
    return Grant(org, key["key"], key["key_id"])


def _command_of(pid: int) -> str:
    """The command line, its words parted by spaces; empty for a process that is gone."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return words.replace(b"\0", b" ").decode(errors="replace")
