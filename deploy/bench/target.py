"""What is measured: a gateway that runs already, or an embedded stack of the bench's own with the backend behind it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx

from deploy.bench.running_backend import NAME, BenchBackend
from deploy.embedded import seed
from deploy.embedded.ports import HOST
from deploy.embedded.process import Progress
from deploy.embedded.roles import ROLES
from deploy.embedded.stack import Stack
from deploy.embedded.stack_options import StackOptions
from deploy.embedded.state import UserFolders

ORG: Final = "bench"
MODEL: Final = "bench"
SLOW_MODEL: Final = "bench-100ms"
"""Its backend answers after 100 ms."""
PAUSED_MODEL: Final = "bench-1500ms"
"""Its backend answers after a second and a half, as a model would."""
SPREAD_MODEL: Final = "spread-100ms"
"""The same, at all backends."""
UNLIMITED: Final = {"requests_per_s": 100_000, "burst": 100_000, "concurrency": 100_000}
_ADMIN_DEADLINE_S: Final = 30.0


@dataclass(frozen=True)
class Target:
    """A gateway that is ready to be measured. What a running one does not tell is empty or ``None``."""

    url: str
    """What OPENAI_BASE_URL would be."""
    key: str
    model: str = MODEL
    backend_url: str | None = None
    """The backend itself, so that its own time can be taken off."""
    brokers: str | None = None
    pids: Mapping[str, int] = field(default_factory=dict)
    pages: Mapping[str, str] = field(default_factory=dict)
    """The metrics page of each process."""
    admin: httpx.AsyncClient | None = None
    stack: Stack | None = None
    kafka_folder: Path | None = None

    def log_bytes(self) -> int:
        """What the log takes on disk."""
        assert self.kafka_folder is not None, (
            "scenarios that ask say that they need the bench's own stack"
        )
        return sum(file.stat().st_size for file in self.kafka_folder.rglob("*.log"))

    async def new_model(self, model: str, prices: Mapping[str, Any]) -> None:
        """A model that the first backend serves, at these prices."""
        assert self.admin is not None, "scenarios that ask say that they need the bench's own stack"
        body = {"backends": [{"backend": "bench-0", "weight": 1}], **prices}
        await seed.put(self.admin, seed.Entity("models", model, body))

    async def new_key(self, org: str, limits: Mapping[str, Any] = UNLIMITED) -> str:
        """A key that no limit stops, of an organization with these; the organization is made."""
        assert self.admin is not None, "scenarios that ask say that they need the bench's own stack"
        await seed.put(self.admin, seed.Entity("orgs", org, {"limits": {**UNLIMITED, **limits}}))
        body = {"org": org, "name": "bench", "limits": UNLIMITED}
        answer = await self.admin.post("/keys", json=body)
        return str(answer.raise_for_status().json()["key"])


def options(
    folder: Path, environment: Mapping[str, str], replicas: Mapping[str, int] | None = None
) -> StackOptions:
    """A stack on free ports with a state folder of its own."""
    return StackOptions(
        state_dir=folder,
        cache_dir=UserFolders().cache,
        environment=environment,
        replicas=replicas or {},
        has_example_backends=False,
        has_random_ports=True,
    )


@asynccontextmanager
async def own_stack(
    wanted: StackOptions, backend: BenchBackend, tell: Callable[[str], None]
) -> AsyncIterator[Target]:
    """The stack with the backend behind it, ready; it is gone when the block is left. Raises ``StackError``."""
    stack = Stack(wanted, report=lambda progress: tell(told(progress)))
    try:
        await stack.start()
        async with httpx.AsyncClient(
            base_url=stack.admin_url, timeout=_ADMIN_DEADLINE_S, trust_env=False
        ) as admin:
            await _fill(admin, backend.urls)
            target = Target(
                stack.api_url,
                "",
                backend_url=backend.url,
                brokers=stack.kafka_brokers,
                pids={**pids_of(stack), NAME: backend.pid},
                pages=pages_of(stack),
                admin=admin,
                stack=stack,
                kafka_folder=wanted.state_dir / "kafka",
            )
            key = await target.new_key(ORG)
            yield Target(**{**vars(target), "key": key})
    finally:
        await stack.stop()


def pids_of(stack: Stack) -> dict[str, int]:
    """The living processes by name."""
    return {name: process.pid for name, process in stack.processes.items() if process.pid}


def pages_of(stack: Stack) -> dict[str, str]:
    """The metrics page of each of our processes."""
    return {
        name: f"http://{HOST}:{port}/metrics"
        for name, port in stack.ports.items()
        if name.rpartition("-")[0] in ROLES
    }


def told(progress: Progress) -> str:
    """A line of a stack's story."""
    return f"{'ready' if progress.is_ok else 'PROBLEM'}: {progress.name} {progress.text}"


async def _fill(admin: httpx.AsyncClient, urls: Sequence[str]) -> None:
    """Backends and priced models: one for each pause, and one that all backends serve."""
    names = [f"bench-{number}" for number in range(len(urls))]
    for name, url in zip(names, urls, strict=True):
        await seed.put(admin, seed.Entity("backends", name, {"url": url}))
    alone = (MODEL, SLOW_MODEL, PAUSED_MODEL)
    routes = {**dict.fromkeys(alone, names[:1]), SPREAD_MODEL: names}
    for model, served_by in routes.items():
        route: list[dict[str, Any]] = [{"backend": name, "weight": 1} for name in served_by]
        body = {"backends": route, **seed.EXAMPLE_PRICES}
        await seed.put(admin, seed.Entity("models", model, body))
