"""A stack with what Prometheus and the faults need to know of it, and traffic of every kind that a dashboard shows."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx

from deploy.embedded import seed
from deploy.embedded.ports import HOST
from deploy.embedded.process import Progress
from deploy.embedded.roles import ROLES
from deploy.embedded.stack import Stack
from deploy.embedded.stack_options import StackOptions
from deploy.embedded.state import UserFolders
from tests.support.fakes.behaviour import PLAIN_MODEL
from tests.support.fakes.running_backend import RunningBackend
from tests.support.harness.grants import UNLIMITED

_ADMIN_WITHIN_S: Final = 30.0
_ANSWERED_WITHIN_S: Final = 30.0
_EVERY_S: Final = 0.1
_LIMITED: Final = {"requests_per_s": 1, "burst": 1}

Body = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Watched:
    """A stack that is ready, with the keys of three organizations."""

    stack: Stack
    admin: httpx.AsyncClient
    key: str
    """Of one that no limit stops."""
    loud_key: str
    """Of one that may ask once a second."""
    pages: Mapping[str, str]
    """The metrics page of each process."""

    def pid(self, name: str) -> int:
        """Of a process of the stack by its name."""
        pid = self.stack.processes[name].pid
        assert pid is not None
        return pid


@asynccontextmanager
async def watched_stack(
    folder: Path, backends: Sequence[RunningBackend], environment: Mapping[str, str]
) -> AsyncIterator[Watched]:
    """Start one of each process, on free ports, with a priced model that all backends serve."""
    options = StackOptions(
        state_dir=folder,
        cache_dir=UserFolders().cache,
        environment={**os.environ, **environment},
        has_example_backends=False,
        has_random_ports=True,
    )
    stack = Stack(options, report=_tell)
    try:
        await stack.start()
        async with httpx.AsyncClient(
            base_url=stack.admin_url, timeout=_ADMIN_WITHIN_S, trust_env=False
        ) as admin:
            key, loud_key = await _fill(admin, backends)
            pages = {
                name: f"http://{HOST}:{port}/metrics"
                for name, port in stack.ports.items()
                if name.rpartition("-")[0] in ROLES
            }
            yield Watched(stack, admin, key, loud_key, pages)
    finally:
        await stack.stop()


async def _fill(admin: httpx.AsyncClient, backends: Sequence[RunningBackend]) -> tuple[str, str]:
    for backend in backends:
        await seed.put(admin, seed.Entity("backends", backend.name, {"url": backend.url}))
    targets = [{"backend": backend.name, "weight": 1} for backend in backends]
    model = {"backends": targets, **seed.EXAMPLE_PRICES}
    await seed.put(admin, seed.Entity("models", PLAIN_MODEL, model))
    keys = []
    for org, limits in (("watched", UNLIMITED), ("loud", _LIMITED)):
        await seed.put(admin, seed.Entity("orgs", org, {"limits": limits}))
        made = await admin.post("/keys", json={"org": org, "name": "test", "limits": UNLIMITED})
        keys.append(str(made.raise_for_status().json()["key"]))
    return keys[0], keys[1]


def said(text: str = "hello", **steering: Any) -> Body:
    """A chat completion; ``steering`` tells the fake backend what to do."""
    content = json.dumps({"fake": steering}) if steering else text
    return {"model": PLAIN_MODEL, "messages": [{"role": "user", "content": content}]}


@dataclass(slots=True)
class Traffic:
    """What is sent while the block runs, and how it was answered."""

    watched: Watched
    answered: Counter[int] = field(default_factory=Counter)
    """Status to how many answers; 0 without one."""

    async def send(self, client: httpx.AsyncClient, path: str, body: Body, key: str) -> None:
        """One request."""
        headers = {"authorization": f"Bearer {key}"}
        try:
            answer = await client.post(path, json=body, headers=headers)
        except httpx.HTTPError:
            self.answered[0] += 1
        else:
            self.answered[answer.status_code] += 1


@asynccontextmanager
async def traffic(watched: Watched, kinds: Sequence[str] = ()) -> AsyncIterator[Traffic]:
    """Ten requests a second, open loop, of each kind in turn: all of them by default."""
    load = Traffic(watched)
    sending = asyncio.create_task(_send_forever(load, kinds or tuple(KINDS)))
    try:
        yield load
    finally:
        sending.cancel()
        with suppress(asyncio.CancelledError):
            await sending


KINDS: Final[Mapping[str, tuple[str, Body, bool]]] = {
    "plain": ("chat/completions", said(), False),
    "stream": ("chat/completions", said() | {"stream": True}, False),
    "embedding": ("embeddings", {"model": PLAIN_MODEL, "input": "hello"}, False),
    "native": ("inference", said(), False),
    "loud": ("chat/completions", said(), True),
    "failing": ("chat/completions", said(mode="500"), False),
    "unknown": ("chat/completions", said() | {"model": "none"}, False),
}
"""Path, body, and whether it is the loud organization's."""


async def _send_forever(load: Traffic, kinds: Sequence[str]) -> None:
    under_way: set[asyncio.Task[None]] = set()
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(
        base_url=load.watched.stack.api_url,
        timeout=_ANSWERED_WITHIN_S,
        trust_env=False,
        limits=limits,
    ) as client:
        try:
            while True:
                for kind in kinds:
                    path, body, is_loud = KINDS[kind]
                    key = load.watched.loud_key if is_loud else load.watched.key
                    task = asyncio.create_task(load.send(client, path, body, key))
                    under_way.add(task)
                    task.add_done_callback(under_way.discard)
                    await asyncio.sleep(_EVERY_S)
        finally:
            for task in list(under_way):
                task.cancel()
            await asyncio.gather(*under_way, return_exceptions=True)


def _tell(progress: Progress) -> None:
    if not progress.is_ok:
        print(f"PROBLEM: {progress.name} {progress.text}", file=sys.stderr, flush=True)
