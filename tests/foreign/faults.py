"""Faults made for real on a watched stack, each for as long as its block runs."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

from deploy.embedded import seed
from deploy.embedded.admin_tls import ensure_admin_certificates
from deploy.embedded.probes import is_ledger_open
from tests.foreign.watched_stack import Traffic, Watched
from tests.support.fakes.behaviour import PLAIN_MODEL
from tests.support.harness.bad_records import REFUSED_MODEL, append_poison, append_refused_entry
from tests.support.harness.certificates import nine_days
from tests.support.harness.foreign_store import open_foreign
from tests.support.harness.ledger_view import key_of
from tests.support.harness.standing_still import standing_still

_TAKES_BYTES: Final = 1 << 30
_GROWS_BYTES: Final = 2 << 20
_GROWS_EVERY_S: Final = 0.5
_WRONG_BY: Final = 7
_REBUILT_WITHIN_S: Final = 120.0
_LOOK_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class Scene:
    """What a fault has at hand."""

    watched: Watched
    load: Traffic


Fault: TypeAlias = Callable[[Scene], AbstractAsyncContextManager[None]]


@asynccontextmanager
async def _hanging(*pids: int) -> AsyncIterator[None]:
    with standing_still(*pids):
        yield


def hangs(*names: str) -> Fault:
    """Processes of the stack that are there and do nothing."""
    return lambda scene: _hanging(*(scene.watched.pid(name) for name in names))


def backends_hang(count: int) -> Fault:
    """The first backends, likewise."""
    return lambda scene: _hanging(*(backend.pid for backend in scene.watched.backends[:count]))


def sent_instead(*kinds: str) -> Fault:
    """Other requests than usual."""

    @asynccontextmanager
    async def fault(scene: Scene) -> AsyncIterator[None]:
        before, scene.load.kinds = scene.load.kinds, kinds
        try:
            yield
        finally:
            scene.load.kinds = before

    return fault


@asynccontextmanager
async def poison(scene: Scene) -> AsyncIterator[None]:
    """A record that nobody can read."""
    await append_poison(scene.watched.stack.kafka_brokers)
    yield


@asynccontextmanager
async def refused_entry(scene: Scene) -> AsyncIterator[None]:
    """An entry of the configuration that nobody goes by, until it is written anew."""
    stack = scene.watched.stack
    await append_refused_entry(stack.kafka_brokers, stack.memory)
    yield
    targets = [{"backend": scene.watched.backends[0].name, "weight": 1}]
    await scene.watched.put("models", REFUSED_MODEL, {"backends": targets, **seed.EXAMPLE_PRICES})


@asynccontextmanager
async def overridden(scene: Scene) -> AsyncIterator[None]:
    """Somebody sends all requests of a model to one backend, until that is taken back."""
    path = f"/overrides/pin/{PLAIN_MODEL}"
    body = {"backend": scene.watched.backends[0].name, "for_s": 600, "reason": "a test"}
    async with scene.watched.admin() as admin:
        (await admin.put(path, json=body)).raise_for_status()
        yield
        (await admin.delete(path)).raise_for_status()


@asynccontextmanager
async def ledger_lost(scene: Scene) -> AsyncIterator[None]:
    """It starts again on an empty disk, and nobody makes it anew: accounting hangs."""
    process = scene.watched.stack.processes["ledger"]
    async with hangs("accounting-0")(scene):
        await process.stop()
        await asyncio.to_thread(shutil.rmtree, scene.watched.folder / "ledger/appendonlydir")
        await process.start()
        yield


async def until_whole(watched: Watched) -> None:
    """Wait until every shard of the ledger decides. Raises ``TimeoutError``."""
    async with asyncio.timeout(_REBUILT_WITHIN_S):
        while not await is_ledger_open(watched.stack.ports["ingress-0"]):  # noqa: ASYNC110  # another process
            await asyncio.sleep(_LOOK_S)


@asynccontextmanager
async def _filled(scene: Scene) -> AsyncIterator[int]:
    """A file of somebody else beside the log; its descriptor."""
    large = scene.watched.folder / "kafka/core.4711"
    file = os.open(large, os.O_CREAT | os.O_WRONLY)
    try:
        yield file
    finally:
        os.close(file)
        large.unlink()


@asynccontextmanager
async def disk_low(scene: Scene) -> AsyncIterator[None]:
    """Somebody takes what ingress keeps free; `room_left` says how much that is."""
    async with _filled(scene) as file:
        await asyncio.to_thread(os.posix_fallocate, file, 0, _TAKES_BYTES)
        yield


def room_left(folder: Path) -> dict[str, str]:
    """What a stack is told so that it can lose half of what `disk_low` takes."""
    keeps = shutil.disk_usage(folder).free - _TAKES_BYTES // 2
    return {"TALLYGATE_DISK_FREE_MIN_BYTES": str(keeps)}


@asynccontextmanager
async def disk_fills(scene: Scene) -> AsyncIterator[None]:
    """Something takes 4 MiB a second."""

    async def grow(file: int) -> None:
        size = 0
        while True:
            os.posix_fallocate(file, size, _GROWS_BYTES)
            size += _GROWS_BYTES
            await asyncio.sleep(_GROWS_EVERY_S)

    async with _filled(scene) as file:
        growing = asyncio.create_task(grow(file))
        try:
            yield
        finally:
            growing.cancel()
            with suppress(asyncio.CancelledError):
                await growing


@asynccontextmanager
async def ending_certificate(scene: Scene) -> AsyncIterator[None]:
    """That of the admin port lasts for nine days, until it is renewed."""
    with nine_days():
        await _renew(scene.watched)
    yield
    await _renew(scene.watched)


async def _renew(watched: Watched) -> None:
    ensure_admin_certificates(watched.folder, anew=True)
    watched.stack.admin_tls = watched.tls
    await watched.stack.restart("admin-0")


@asynccontextmanager
async def wrong_books(scene: Scene) -> AsyncIterator[None]:
    """A sum of the ledger is changed by hand, and changed back."""
    await asyncio.to_thread(_change, scene.watched, _WRONG_BY)
    await scene.watched.verify()
    yield
    await asyncio.to_thread(_change, scene.watched, -_WRONG_BY)
    await scene.watched.verify()


def _change(watched: Watched, by: int) -> None:
    with open_foreign(watched.stack.ledger_url) as store:
        key = min(store.scan_iter(key_of("watched", "u:*"), count=10_000))
        stored: Any = store.hgetall(key)
        name = min(name for name in stored if PLAIN_MODEL.encode() in name)
        store.hincrby(key, name, by)
