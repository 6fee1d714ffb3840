"""The faults that ``tallygate doctor`` has to find, each made for real on a running stack and taken back after it."""

from __future__ import annotations

import asyncio
import shutil
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import Final, NamedTuple

from aiohttp import web
from aiokafka import AIOKafkaProducer
from aiokafka.admin import NewPartitions
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from deploy.embedded.admin_tls import ensure_admin_certificates
from deploy.embedded.ports import HOST
from schemas.runtime.kafka.access import client_options
from schemas.topics import CONFIG, OUTCOMES, REQUESTS, TOPICS, USAGE_RECORDS
from tests.chaos.ill_stack import IllStack
from tests.support.harness.certificates import nine_days
from tests.support.harness.foreign_store import open_foreign
from tests.support.harness.ledger_server import free_ports

DAY_S = 86_400
DLQ = "inference.deferred-60s.v1.dlq"
GIB = 1 << 30
Seed = Callable[[IllStack], AbstractAsyncContextManager[None]]


class Row(NamedTuple):
    """One fault: how it is made, and where the doctor has to find it."""

    name: str
    seed: Seed
    check: str
    where: str
    is_remedied: bool = False
    """Whether what the doctor says to run mends it; else the test does, as an operator would."""
    heals: bool = True
    """Whether the stack is well again after it."""


@asynccontextmanager
async def other_pepper(ill: IllStack) -> AsyncIterator[None]:
    async with ill.told("ingress-0", TALLYGATE_KEY_PEPPER="another pepper of thirty-two chars"):
        yield


@asynccontextmanager
async def more_partitions(ill: IllStack) -> AsyncIterator[None]:
    async with ill.brokers() as admin:
        await admin.create_partitions({DLQ: NewPartitions(total_count=5)})
    yield


@asynccontextmanager
async def missing_topic(ill: IllStack) -> AsyncIterator[None]:
    async with ill.brokers() as admin:
        await admin.delete_topics([DLQ])
    yield


@asynccontextmanager
async def short_retention(ill: IllStack) -> AsyncIterator[None]:
    own = next(topic for topic in TOPICS if topic.name == USAGE_RECORDS).settings()
    settings = own | {"retention.ms": "3600000"}
    hour = ConfigResource(ConfigResourceType.TOPIC, USAGE_RECORDS, configs=settings)
    async with ill.brokers() as admin:
        await admin.alter_configs([hour])
    yield


@asynccontextmanager
async def bus_is_ledger(ill: IllStack) -> AsyncIterator[None]:
    async with ill.told("dispatcher-0", TALLYGATE_BUS_URL=ill.stack.ledger_url):
        yield


def store_setting(name: str, value: str) -> Seed:
    """A setting of the ledger's server."""

    @asynccontextmanager
    async def seed(ill: IllStack) -> AsyncIterator[None]:
        with open_foreign(ill.stack.ledger_url) as store:
            store.config_set(name, value)
        yield

    return seed


@asynccontextmanager
async def unknown_schema(ill: IllStack) -> AsyncIterator[None]:
    producer = AIOKafkaProducer(**client_options(ill.stack.kafka_brokers))
    await producer.start()
    try:
        record = b"\x00\x00\x00\xff\xff" + b"x" * 50
        await producer.send_and_wait(REQUESTS, record, key=b"demo", partition=0)
    finally:
        await producer.stop()
    yield


@asynccontextmanager
async def moved_clock(ill: IllStack) -> AsyncIterator[None]:
    ill.stack.move("accounting-0", 30_000)
    yield
    ill.stack.move("accounting-0", 0)


@asynccontextmanager
async def unpriced(ill: IllStack) -> AsyncIterator[None]:
    await ill.put("/orgs/rich", {"limits": {"budgets": [{"usd": "1", "period": "day"}]}})
    await ill.put("/models/unpriced", {"backends": [{"backend": "example-a"}]})
    yield
    await ill.delete("/models/unpriced", "/orgs/rich")


@asynccontextmanager
async def no_key(ill: IllStack) -> AsyncIterator[None]:
    variable = "BACKEND_KEYLESS_API_KEY"
    await ill.put("/backends/keyless", {"url": ill.example_url, "api_key_env": variable})
    yield
    await ill.delete("/backends/keyless")


@asynccontextmanager
async def unauthorized(ill: IllStack) -> AsyncIterator[None]:
    async def refuse(_: web.Request) -> web.Response:
        return web.json_response({"error": {"message": "no such key"}}, status=401)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", refuse)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, HOST, 0)
    await site.start()
    port = runner.addresses[0][1]
    await ill.put("/backends/locked", {"url": f"http://{HOST}:{port}/v1"})
    yield
    await ill.delete("/backends/locked")
    await runner.cleanup()


def backend_url(name: str, url: Callable[[IllStack], str]) -> Seed:
    """A backend at a wrong address."""

    @asynccontextmanager
    async def seed(ill: IllStack) -> AsyncIterator[None]:
        await ill.put(f"/backends/{name}", {"url": url(ill)})
        yield
        await ill.fill()
        await ill.delete(f"/backends/{name}")

    return seed


@asynccontextmanager
async def without_backend(ill: IllStack) -> AsyncIterator[None]:
    await ill.put("/backends/spare", {"url": ill.example_url})
    await ill.put("/models/lonely", {"backends": [{"backend": "spare"}]})
    await ill.command("backends", "drain", "spare")
    yield
    await ill.command("backends", "restore", "spare")
    await ill.delete("/models/lonely", "/backends/spare")


@asynccontextmanager
async def taken_port(_: IllStack) -> AsyncIterator[None]:
    """Ours, unless somebody has it anyway; the doctor looks where no gateway runs."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            held.bind((HOST, 8080))
            held.listen()
        except OSError:
            pass
        yield


@asynccontextmanager
async def low_disk(ill: IllStack) -> AsyncIterator[None]:
    free = shutil.disk_usage(ill.folder).free
    async with ill.told("ingress-0", TALLYGATE_DISK_FREE_MIN_BYTES=str(free + GIB)):
        yield


@asynccontextmanager
async def ending_certificate(ill: IllStack) -> AsyncIterator[None]:
    with nine_days():
        ensure_admin_certificates(ill.stack.state_dir, anew=True)
    await ill.renew_admin()
    yield
    await ill.renew_admin()


@asynccontextmanager
async def acl_denied(ill: IllStack) -> AsyncIterator[None]:
    await ill.forbid("dispatcher", "write", OUTCOMES)
    yield


_REFUSES_WITHIN_S: Final = 1.0


@asynccontextmanager
async def stale(ill: IllStack) -> AsyncIterator[None]:
    await ill.forbid("limiter_worker", "read", CONFIG)
    # The broker takes moments until it refuses: a record that came before is read all the same.
    for burst in range(1, 4):
        await asyncio.sleep(_REFUSES_WITHIN_S)
        await ill.put("/orgs/newer", {"limits": {"burst": burst}})
    yield


@asynccontextmanager
async def twin(ill: IllStack) -> AsyncIterator[None]:
    spec = ill.stack.processes["ingress-0"].spec
    names = ("TALLYGATE_PORT", "TALLYGATE_GRPC_PORT")
    ports = dict(zip(names, map(str, free_ports(len(names))), strict=True))
    other = await asyncio.create_subprocess_exec(
        *spec.argv,
        env={**spec.environment, **ports},
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            other.terminate()
        await other.wait()


def _typo(ill: IllStack) -> str:
    return ill.example_url.replace("/v1", "/v2")


ALONE: tuple[Row, ...] = (
    Row("pepper differs between processes", other_pepper, "pepper", "ingress-0"),
    Row("wrong partition count", more_partitions, "partitions", DLQ, is_remedied=True),
    Row("topic missing", missing_topic, "topics", DLQ, is_remedied=True),
    Row("retention too short", short_retention, "retention", USAGE_RECORDS, is_remedied=True),
    Row("bus is the ledger", bus_is_ledger, "bus", "dispatcher-0"),
    Row("eviction on the ledger", store_setting("maxmemory-policy", "allkeys-lru"), "eviction", "ledger server", is_remedied=True),
    Row("append-only file off", store_setting("appendonly", "no"), "append-only", "ledger server", is_remedied=True),
    Row("clock skew", moved_clock, "clock", "accounting-0"),
    Row("unpriced model with a budget", unpriced, "price", "unpriced", is_remedied=True),
    Row("backend key missing", no_key, "backend key", "keyless"),
    Row("backend answers 401", unauthorized, "backend 401", "locked"),
    Row("URL typo (path)", backend_url("typo", _typo), "backend url", "typo", is_remedied=True),
    Row("URL typo (host)", backend_url("lost", lambda _: "http://exmaple.invalid/v1"), "backend url", "lost"),
    Row("model without backend", without_backend, "model", "lonely"),
    Row("port taken", taken_port, "port", "8080"),
    Row("disk low", low_disk, "disk", f"broker {HOST}"),
    Row("two processes with one instance id", twin, "instance id", "ingress-0"),
    # The record waits for a newer version, which this is not.
    Row("unknown schema id", unknown_schema, "schema", "limiter_worker-0", heals=False),
)  # fmt: skip
"""On one machine without users or certificates."""

GUARDED: tuple[Row, ...] = (
    Row("certificate near expiry", ending_certificate, "certificate", "admin-0", is_remedied=True),
    Row("ACL denied", acl_denied, "acl", f"topic {OUTCOMES}", is_remedied=True),
    Row("stale configuration", stale, "configuration", "limiter_worker-0", is_remedied=True),
)
"""On a cluster with --mtls, --kafka-users and --store-users."""
