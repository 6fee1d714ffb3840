"""A stack with what Prometheus and the faults need to know of it, and traffic of every kind that a dashboard shows."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

import httpx

from deploy.embedded import seed
from deploy.embedded.admin_tls import AdminCertificates, admin_certificates
from deploy.embedded.ports import HOST
from deploy.embedded.process import Progress
from deploy.embedded.roles import ROLES, role_of
from deploy.embedded.stack import Stack
from deploy.embedded.stack_options import StackOptions
from deploy.embedded.state import UserFolders
from schemas.admin_roles import Role
from tests.foreign.prometheus import Target
from tests.support.fakes.behaviour import PLAIN_MODEL
from tests.support.fakes.running_backend import RunningBackend
from tests.support.harness.grants import UNLIMITED

NARROW_MODEL: Final = "fake-narrow"
"""Of a backend that takes one call at a time."""
_ADMIN_WITHIN_S: Final = 180.0
_ANSWERED_WITHIN_S: Final = 60.0
_EVERY_S: Final = 0.1
_QUOTA: Final = {"amount": 20, "unit": "requests", "period": "month"}
ORGS: Final[Mapping[str, dict[str, Any]]] = {
    "watched": {"limits": UNLIMITED},
    "loud": {"limits": {"requests_per_s": 1, "burst": 1}},
    "spender": {"limits": {**UNLIMITED, "quotas": [_QUOTA]}},
    "asked": {"limits": UNLIMITED, "budget_service": {"while_down": "deny"}},
}
"""One that no limit stops, one that may ask once a second, one with a small quota, one whose budget somebody else keeps."""

Body = dict[str, Any]


@dataclass(slots=True)
class Watched:
    """A stack that is ready."""

    stack: Stack
    folder: Path
    """Of its state."""
    backends: Sequence[RunningBackend]
    keys: dict[str, str] = field(default_factory=dict)
    """Of each organization."""

    @property
    def tls(self) -> AdminCertificates:
        """Of the admin port, as they are now."""
        return admin_certificates(self.folder)

    def admin(self) -> httpx.AsyncClient:
        """Its administrator."""
        context = self.tls.client_context()
        url = self.stack.admin_url
        return httpx.AsyncClient(
            base_url=url, timeout=_ADMIN_WITHIN_S, trust_env=False, verify=context
        )

    async def put(self, kind: str, name: str, body: Body) -> None:
        """Write an entity."""
        async with self.admin() as admin:
            await seed.put(admin, seed.Entity(kind, name, body))

    async def verify(self) -> int:
        """What the ledger and the log differ by."""
        async with self.admin() as admin:
            answer = await admin.get("/ledger/verify", params={"deadline_s": 20})
            return int(answer.raise_for_status().json()["difference"])

    def targets(self) -> list[Target]:
        """The page of each process."""
        files, viewer = self.tls.files, Role.VIEWER
        tls = {
            "ca_file": str(files.authority),
            "cert_file": str(files.certificate(viewer)),
            "key_file": str(files.key(viewer)),
        }
        return [
            Target(role, f"{'https' if own else 'http'}://{HOST}:{port}/metrics", own)
            for name, port in self.stack.ports.items()
            if (role := role_of(name)) in ROLES and name == f"{role}-0"
            for own in [tls if role == "admin" else {}]
        ]

    async def page(self, target: Target, accept: str = "") -> httpx.Response:
        """A page of metrics."""
        verify = self.tls.client_context() if target.tls else True
        async with httpx.AsyncClient(timeout=10, trust_env=False, verify=verify) as client:
            return (
                await client.get(target.url, headers={"accept": accept} if accept else {})
            ).raise_for_status()

    def pid(self, name: str) -> int:
        """Of a process of the stack by its name."""
        pid = self.stack.pid(name)
        assert pid is not None
        return pid


@asynccontextmanager
async def watched_stack(
    folder: Path, backends: Sequence[RunningBackend], environment: Mapping[str, str]
) -> AsyncIterator[Watched]:
    """Start one of each process, on free ports, with certificates on the admin port and a priced model that all backends serve."""
    options = StackOptions(
        state_dir=folder,
        cache_dir=UserFolders().cache,
        environment={**os.environ, **environment},
        has_example_backends=False,
        has_random_ports=True,
        has_mtls=True,
    )
    stack = Stack(options, report=_tell)
    try:
        await stack.start()
        watched = Watched(stack, folder, backends)
        await _fill(watched)
        yield watched
    finally:
        await stack.stop()


async def _fill(watched: Watched) -> None:
    for backend in watched.backends:
        await watched.put("backends", backend.name, {"url": backend.url})
    narrow = {"url": watched.backends[0].url, "max_concurrency": 1}
    await watched.put("backends", "narrow", narrow)
    for model, names in (
        (PLAIN_MODEL, [backend.name for backend in watched.backends]),
        (NARROW_MODEL, ["narrow"]),
    ):
        targets = [{"backend": name, "weight": 1} for name in names]
        await watched.put("models", model, {"backends": targets, **seed.EXAMPLE_PRICES})
    for org, body in ORGS.items():
        await watched.put("orgs", org, body)
        async with watched.admin() as admin:
            wanted = {"org": org, "name": "test", "limits": UNLIMITED}
            made = await admin.post("/keys", json=wanted)
        watched.keys[org] = str(made.raise_for_status().json()["key"])


def said(text: str = "hello", **steering: Any) -> Body:
    """A chat completion; ``steering`` tells the fake backend what to do."""
    content = json.dumps({"fake": steering}) if steering else text
    return {"model": PLAIN_MODEL, "messages": [{"role": "user", "content": content}]}


class Kind(NamedTuple):
    """One kind of request."""

    path: str
    body: Body
    org: str = "watched"


_CHAT: Final = "chat/completions"
_NATIVE: Final = "inference"
_OF_KINDS: Final = {"cached": 3, "written": 2, "reasoning": 2}
KINDS: Final[Mapping[str, Kind]] = {
    "plain": Kind(_CHAT, said()),
    "stream": Kind(_CHAT, said() | {"stream": True}),
    "text": Kind("completions", {"model": PLAIN_MODEL, "prompt": "hello"}),
    "embedding": Kind("embeddings", {"model": PLAIN_MODEL, "input": "hello"}),
    "native": Kind(_NATIVE, {"model": PLAIN_MODEL, "payload": "hello"}),
    "kinds": Kind(_CHAT, said(output_tokens=4, kinds=_OF_KINDS)),
    "narrow": Kind(_CHAT, said(delay_ms=2_500) | {"model": NARROW_MODEL}),
    "loud": Kind(_CHAT, said(), "loud"),
    "spender": Kind(_CHAT, said(), "spender"),
    "asked": Kind(_CHAT, said(), "asked"),
    "failing": Kind(_CHAT, said(mode="500")),
    "unknown": Kind(_CHAT, said() | {"model": "none"}),
}


@dataclass(slots=True)
class Traffic:
    """What is sent while the block runs, and how it was answered."""

    watched: Watched
    kinds: tuple[str, ...]
    """Sent in turn; a fault may change them."""
    answered: Counter[int] = field(default_factory=Counter)
    """Status to how many answers; 0 without one."""

    async def send(self, client: httpx.AsyncClient, kind: Kind) -> None:
        """One request."""
        headers = {"authorization": f"Bearer {self.watched.keys[kind.org]}"}
        own = {"request_id": str(uuid.uuid4())} if kind.path == _NATIVE else {}
        try:
            answer = await client.post(kind.path, json=kind.body | own, headers=headers)
        except httpx.HTTPError:
            self.answered[0] += 1
        else:
            self.answered[answer.status_code] += 1


@asynccontextmanager
async def traffic(watched: Watched, kinds: Sequence[str] = tuple(KINDS)) -> AsyncIterator[Traffic]:
    """Ten requests a second, open loop, of each kind in turn."""
    load = Traffic(watched, tuple(kinds))
    sending = asyncio.create_task(_send_forever(load))
    try:
        yield load
    finally:
        sending.cancel()
        with suppress(asyncio.CancelledError):
            await sending


async def _send_forever(load: Traffic) -> None:
    under_way: set[asyncio.Task[None]] = set()
    async with httpx.AsyncClient(
        base_url=load.watched.stack.api_url,
        timeout=_ANSWERED_WITHIN_S,
        trust_env=False,
        limits=httpx.Limits(max_connections=None),
    ) as client:
        try:
            while True:
                for kind in load.kinds:
                    task = asyncio.create_task(load.send(client, KINDS[kind]))
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
