"""A stack whose processes have wall clocks that can be moved, each for itself, while they run.

A small library (moved_clock.c, built when it is needed) is loaded into every process, the stores and the
broker included; the file it reads holds the offset. Monotonic clocks are left alone.
"""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx

from deploy.embedded.process import ProcessSpec, Progress
from deploy.embedded.stack import Stack
from deploy.embedded.stack_options import StackOptions
from deploy.embedded.state import UserFolders
from tests.support.fakes.behaviour import PLAIN_MODEL
from tests.support.fakes.running_backend import RunningBackend, running_backend
from tests.support.harness.wanted_ledger import wanted_ledger

_NS_PER_MS = 1_000_000
_ADMIN_DEADLINE_S = 60.0
_PRICES = {"input_usd_per_mtok": "0.50", "output_usd_per_mtok": "1.50"}


class MovableStack(Stack):
    """Loads the library into everything it starts."""

    def __init__(self, options: StackOptions, folder: Path) -> None:
        super().__init__(options, _tell)
        self._folder_of_clocks = folder
        self._library = _built(folder)

    def move(self, name: str, by_ms: int) -> None:
        """Set one process's clock off by so much, at once."""
        with self._file(name).open("r+b") as file:
            file.write(struct.pack("<q", by_ms * _NS_PER_MS))

    async def _start_all(self, specs: Iterable[ProcessSpec]) -> None:
        await super()._start_all([self._with_library(spec) for spec in specs])

    def _with_library(self, spec: ProcessSpec) -> ProcessSpec:
        file = self._file(spec.name)
        file.write_bytes(struct.pack("<q", 0))
        own = {"LD_PRELOAD": str(self._library), "TALLYGATE_TEST_CLOCK": str(file)}
        return replace(spec, environment={**spec.environment, **own})

    def _file(self, name: str) -> Path:
        return self._folder_of_clocks / f"{name}.clock"


@dataclass(frozen=True)
class Scene:
    """A running stack, its backend, and the administrator's client."""

    stack: MovableStack
    backend: RunningBackend
    admin: httpx.AsyncClient

    async def key(self, org: str, limits: dict[str, Any]) -> str:
        """A key of a new organization with these limits; the key itself has a wide rate alone."""
        wide = {"requests_per_s": 100_000, "burst": 100_000}
        await self._put(f"/orgs/{org}", {"limits": wide | limits})
        body = {"org": org, "name": "load", "limits": wide}
        made = (await self.admin.post("/keys", json=body)).raise_for_status().json()
        return str(made["key"])

    async def difference(self) -> Any:
        """What `ledger verify` finds once everything stands still; 0 is right."""
        answer = await self.admin.get("/ledger/verify", params={"deadline_s": 20.0})
        return answer.json().get("difference", answer.text[:200])

    async def _put(self, path: str, body: dict[str, Any]) -> None:
        (await self.admin.put(path, json=body)).raise_for_status()

    async def fill(self) -> None:
        """Say which backend there is, and what it costs."""
        await self._put("/backends/only", {"url": self.backend.url})
        only = [{"backend": "only", "weight": 1}]
        await self._put(f"/models/{PLAIN_MODEL}", {"backends": only, **_PRICES})


@asynccontextmanager
async def running_scene(folder: Path) -> AsyncIterator[Scene]:
    """The scene, ready, with one process of each kind; everything is gone when the block is left."""
    with running_backend("only", folder / "only.jsonl", latency_ms=20) as backend:
        options = StackOptions(
            state_dir=folder / "state",
            cache_dir=UserFolders().cache,
            environment=dict(os.environ),
            ledger=wanted_ledger(os.environ),
            has_example_backends=False,
            has_random_ports=True,
        )
        stack = MovableStack(options, folder)
        try:
            await stack.start()
            async with httpx.AsyncClient(
                base_url=stack.admin_url, timeout=_ADMIN_DEADLINE_S, trust_env=False
            ) as admin:
                scene = Scene(stack, backend, admin)
                await scene.fill()
                yield scene
        finally:
            await stack.stop()


def _built(folder: Path) -> Path:
    source, library = Path(__file__).with_name("moved_clock.c"), folder / "moved_clock.so"
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise RuntimeError("a C compiler is needed to move clocks")
    built = [compiler, "-O2", "-shared", "-fPIC", "-o", str(library), str(source), "-ldl"]
    subprocess.run(built, check=True, timeout=60)
    return library


def _tell(progress: Progress) -> None:
    state = "ready" if progress.is_ok else "PROBLEM"
    print(f"{state}: {progress.name} {progress.text}", file=sys.stderr, flush=True)
