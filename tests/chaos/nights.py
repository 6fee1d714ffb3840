"""The faults of the runbooks' nights, each made for real on a running stack, and what an operator has at hand meanwhile."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import NamedTuple

import httpx
from aiohttp import web

from deploy.embedded.admin_tls import ensure_admin_certificates
from deploy.embedded.ports import HOST
from deploy.embedded.roles import EXAMPLE_BACKENDS
from deploy.embedded.seed import EXAMPLE_MODEL, EXAMPLE_PRICES
from tests.chaos.ill_stack import IllStack
from tests.support.harness.bad_records import append_poison, append_refused_entry
from tests.support.harness.certificates import nine_days

GIB = 1 << 30
_WIDE = {"requests_per_s": 100_000, "burst": 100_000}
_LOUD_AT_ONCE = 40
Variables = Mapping[str, str]
Fault = Callable[[IllStack, Variables], AbstractAsyncContextManager[Variables]]
"""Makes it; what the runbook calls by a name of its own is given back."""


class Night(NamedTuple):
    """One runbook's fault, and on which stack it is made."""

    fault: Fault
    is_guarded: bool = False


def stopped(*names: str) -> Fault:
    """Processes that are gone, until somebody starts them."""

    @asynccontextmanager
    async def fault(ill: IllStack, _: Variables) -> AsyncIterator[Variables]:
        await asyncio.gather(*(ill.stack.processes[name].stop() for name in names))
        try:
            yield {}
        finally:
            for name in names:
                if ill.stack.pid(name) is None:
                    await ill.stack.processes[name].start()

    return fault


@asynccontextmanager
async def ledger_lost(ill: IllStack, _: Variables) -> AsyncIterator[Variables]:
    """Its server starts again on an empty disk, as after the loss of a volume."""
    process = ill.stack.processes["ledger"]
    await process.stop()
    shutil.rmtree(ill.stack.state_dir / "ledger" / "appendonlydir")
    await process.start()
    yield {}


@asynccontextmanager
async def loud_tenant(ill: IllStack, _: Variables) -> AsyncIterator[Variables]:
    """An organization without a bound that asks as much as it can."""
    key = await ill.key("loud", _WIDE)
    body = {"model": EXAMPLE_MODEL, "messages": [{"role": "user", "content": "word " * 50}]}
    url = f"{ill.stack.api_url}/chat/completions"
    headers = {"authorization": f"Bearer {key}"}

    async def ask(client: httpx.AsyncClient) -> None:
        while True:
            with suppress(httpx.HTTPError):
                answer = await client.post(url, json=body, headers=headers)
                await asyncio.sleep(0 if answer.is_success else 0.05)

    async with httpx.AsyncClient(timeout=60, trust_env=False) as client:
        asking = [asyncio.create_task(ask(client)) for _ in range(_LOUD_AT_ONCE)]
        try:
            yield {"LOUD_KEY": key}
        finally:
            for task in asking:
                task.cancel()
            await asyncio.wait(asking)


@asynccontextmanager
async def lagging(ill: IllStack, variables: Variables) -> AsyncIterator[Variables]:
    """Nobody calls backends, and jobs go on coming."""
    async with stopped("dispatcher-0")(ill, variables):
        headers = {"authorization": f"Bearer {variables['KEY']}", "prefer": "respond-async"}
        body = {"model": EXAMPLE_MODEL, "messages": [{"role": "user", "content": "later"}]}
        async with httpx.AsyncClient(timeout=60, trust_env=False, headers=headers) as client:
            for _ in range(20):
                answer = await client.post(f"{ill.stack.api_url}/chat/completions", json=body)
                assert answer.status_code == 202, answer.text
        yield {}


@asynccontextmanager
async def bad_release(ill: IllStack, _: Variables) -> AsyncIterator[Variables]:
    """Somebody sent all requests to a new backend, which answers each with 500."""

    async def fail(_: web.Request) -> web.Response:
        return web.json_response({"error": {"message": "not today"}}, status=500)

    async def live(_: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": []})

    app = web.Application()
    app.router.add_post("/v1/{operation:.+}", fail)
    app.router.add_get("/v1/models", live)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, HOST, 0).start()
    try:
        url = f"http://{HOST}:{runner.addresses[0][1]}/v1"
        await ill.put("/backends/sick", {"url": url})
        targets = [{"backend": name, "weight": 1} for name in (*EXAMPLE_BACKENDS, "sick")]
        await ill.put(f"/models/{EXAMPLE_MODEL}", {"backends": targets, **EXAMPLE_PRICES})
        pin = ("routes", "pin", EXAMPLE_MODEL, "sick", "--for", "2h", "--reason", "a new release")
        code, said = await ill.command(*pin)
        assert code == 0, said
        yield {}
        await ill.fill()
        await ill.delete("/backends/sick")
    finally:
        await runner.cleanup()


@asynccontextmanager
async def poison(ill: IllStack, _: Variables) -> AsyncIterator[Variables]:
    """A record that is none, from a foreign hand."""
    await append_poison(ill.stack.kafka_brokers)
    yield {}


@asynccontextmanager
async def refused_entry(ill: IllStack, _: Variables) -> AsyncIterator[Variables]:
    """An entry that an older version let pass: its backend does not exist."""
    await append_refused_entry(ill.stack.kafka_brokers, ill.stack.memory)
    yield {}


@asynccontextmanager
async def disk_low(ill: IllStack, _: Variables) -> AsyncIterator[Variables]:
    """A file of somebody else takes what the door keeps free."""
    free = shutil.disk_usage(ill.folder).free
    folder = ill.stack.state_dir / "kafka"
    large = folder / "core.4711"
    async with ill.told("ingress-0", TALLYGATE_DISK_FREE_MIN_BYTES=str(free - 4 * GIB)):
        with large.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, 8 * GIB)
        try:
            yield {"BROKER_DISK": str(folder)}
        finally:
            large.unlink(missing_ok=True)


@asynccontextmanager
async def ending_certificate(ill: IllStack, _: Variables) -> AsyncIterator[Variables]:
    """Made for nine days."""
    with nine_days():
        ensure_admin_certificates(ill.stack.state_dir, anew=True)
    await ill.renew_admin()
    yield {"STATE": str(ill.stack.state_dir)}


@asynccontextmanager
async def spent_budget(ill: IllStack, _: Variables) -> AsyncIterator[Variables]:
    """An organization whose budget is smaller than the worst case of its next request."""
    limits = {**_WIDE, "budgets": [{"usd": "0.000001", "period": "month"}]}
    yield {"ACME_KEY": await ill.key("acme", limits)}


NIGHTS: Mapping[str, Night] = {
    "all-backends-down": Night(stopped(*EXAMPLE_BACKENDS)),
    "backend-down": Night(stopped("example-a")),
    "bus-down": Night(stopped("bus")),
    "certificate-near-expiry": Night(ending_certificate, is_guarded=True),
    "configuration-refused": Night(refused_entry),
    "dead-letters": Night(poison),
    "disk-low": Night(disk_low),
    "error-budget": Night(bad_release),
    "kafka-down": Night(stopped("kafka")),
    "lag": Night(lagging),
    "ledger-down": Night(stopped("ledger")),
    "ledger-lost": Night(ledger_lost),
    "loud-tenant": Night(loud_tenant),
    "process-down": Night(stopped("limiter_worker-0")),
    "why-was-i-refused": Night(spent_budget),
}
"""Runbook to its fault."""
