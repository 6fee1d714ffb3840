"""A scene to load unequally: a stack with replicas, a healthy, a hanging and a narrow backend, and tenants.

Everything runs on this machine; the scene ends what it started. Scenarios get a `Scene` and measure.
"""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator, Awaitable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from deploy.embedded.process import Progress
from deploy.embedded.stack import Stack
from deploy.embedded.stack_options import StackOptions
from deploy.embedded.state import UserFolders
from schemas.partitions import partition_of
from tests.support.fakes.behaviour import PLAIN_MODEL
from tests.support.fakes.running_backend import RunningBackend, running_backend
from tests.support.harness.wanted_ledger import wanted_ledger

HEALTHY_MODEL = PLAIN_MODEL
HANGING_MODEL = "fake-hang"
NARROW_MODEL = "narrow-1"
DISPATCHERS = 2
NARROW_SLOTS = 8
NARROW_LATENCY_MS = 50
"""Together a capacity of 160 requests per second."""
PARTITIONS = 4
UNLIMITED = {"requests_per_s": 100_000, "burst": 100_000, "concurrency": 100_000}
_PRICES = {"input_usd_per_mtok": "0.50", "output_usd_per_mtok": "1.50"}
_LONGEST_CALL_S = 600
_ADMIN_DEADLINE_S = 30.0


@dataclass(frozen=True)
class Tenant:
    """An organization and a key of it."""

    org: str
    key: str


@dataclass(frozen=True)
class Scene:
    """A running stack, its backends, and the administrator's client."""

    stack: Stack
    state_dir: Path
    admin: httpx.AsyncClient
    backends: Mapping[str, RunningBackend]
    later: list[Awaitable[str]] = field(default_factory=list)
    """What a scenario still waits for when it has reported, each a line."""

    @property
    def url(self) -> str:
        """What a client uses as OPENAI_BASE_URL."""
        return self.stack.api_url

    @property
    def root(self) -> str:
        """The public address without the API's path."""
        return self.url.removesuffix("/v1")

    def pids(self) -> dict[str, int]:
        """The living processes by name."""
        return {name: p.pid for name, p in self.stack.processes.items() if p.pid}

    async def tenant(self, org: str, limits: Mapping[str, Any] | None = None) -> Tenant:
        """An organization with these limits, and a key of it that no limit stops.

        ``None`` makes one without limits; an empty mapping leaves both to the gateway's defaults.
        """
        stated = dict(UNLIMITED if limits is None else limits)
        (await self.admin.put(f"/orgs/{org}", json={"limits": stated})).raise_for_status()
        body = {"org": org, "name": "load", "limits": UNLIMITED if stated else {}}
        made = (await self.admin.post("/keys", json=body)).raise_for_status().json()
        return Tenant(org, str(made["key"]))

    async def difference(self, deadline_s: float = 30.0) -> Any:
        """What `ledger verify` says once everything stands still: 0, or what differs."""
        answer = await self.admin.get(
            "/ledger/verify", params={"deadline_s": deadline_s}, timeout=2 * deadline_s
        )
        return answer.raise_for_status().json()


def neighbour_names(loud: str) -> tuple[str, str]:
    """Names of one organization in the partition of `loud` and of one in another."""
    home = partition_of(loud.encode(), PARTITIONS)
    names = [f"quiet-{number}" for number in range(64)]
    same = next(name for name in names if partition_of(name.encode(), PARTITIONS) == home)
    other = next(name for name in names if partition_of(name.encode(), PARTITIONS) != home)
    return same, other


@asynccontextmanager
async def running_scene(folder: Path, replicas: Mapping[str, int]) -> AsyncIterator[Scene]:
    """The scene, ready; everything is gone when the block is left."""
    with (
        running_backend("healthy", folder / "healthy.jsonl") as healthy,
        running_backend("hanging", folder / "hanging.jsonl") as hanging,
        running_backend("narrow", folder / "narrow.jsonl", latency_ms=NARROW_LATENCY_MS) as narrow,
    ):
        backends = {backend.name: backend for backend in (healthy, hanging, narrow)}
        options = StackOptions(
            state_dir=folder / "state",
            cache_dir=UserFolders().cache,
            environment=dict(os.environ),
            ledger=wanted_ledger(os.environ),
            replicas=replicas,
            partitions=PARTITIONS,
            has_example_backends=False,
            has_random_ports=True,
        )
        stack = Stack(options, report=_tell)
        try:
            await stack.start()
            async with httpx.AsyncClient(
                base_url=stack.admin_url, timeout=_ADMIN_DEADLINE_S, trust_env=False
            ) as admin:
                await _fill(admin, backends)
                yield Scene(stack, options.state_dir, admin, backends)
        finally:
            await stack.stop()


async def _fill(admin: httpx.AsyncClient, backends: Mapping[str, RunningBackend]) -> None:
    # The bound is each dispatcher's own.
    slots = {"narrow": NARROW_SLOTS // DISPATCHERS}
    for name, backend in backends.items():
        entity = {"url": backend.url, "timeout_s": _LONGEST_CALL_S}
        if name in slots:
            entity["max_concurrency"] = slots[name]
        (await admin.put(f"/backends/{name}", json=entity)).raise_for_status()
    models = {HEALTHY_MODEL: "healthy", HANGING_MODEL: "hanging", NARROW_MODEL: "narrow"}
    for name, backend_id in models.items():
        model = {"backends": [{"backend": backend_id, "weight": 1}], **_PRICES}
        (await admin.put(f"/models/{name}", json=model)).raise_for_status()


def _tell(progress: Progress) -> None:
    state = "ready" if progress.is_ok else "PROBLEM"
    print(f"{state}: {progress.name} {progress.text}", file=sys.stderr, flush=True)
