"""Readiness probes: whether the server on a loopback port answers as itself.

Each returns False while it is not, and never raises for a server that is away.
"""

from __future__ import annotations

import asyncio
import ssl
from http import HTTPStatus

import httpx
import psutil
import redis.asyncio as redis
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from deploy.embedded.ports import HOST
from schemas.readiness import READYZ
from schemas.runtime.kafka.access import client_options

PROBE_DEADLINE_S = 2.0
_CLOSED = {"ledger", "ledger_shards"}
"""Bounds by which an ingress names a ledger that is closed, or shards of it."""


def _no_tls() -> ssl.SSLContext:
    """Without TLS there are no certificates to load, which would be most of the work."""
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


async def is_ledger_open(port: int) -> bool:
    """True if the ingress at the port says that every shard of the ledger decides."""
    try:
        async with (
            asyncio.timeout(PROBE_DEADLINE_S),
            httpx.AsyncClient(trust_env=False, verify=_no_tls()) as client,
        ):
            told = (await client.get(f"http://{HOST}:{port}{READYZ}")).json()
    except (httpx.HTTPError, TimeoutError, ValueError):
        return False
    # What it has not looked at yet it says nothing of.
    return "workers" in told and not _CLOSED & told["bounds"].keys()


async def is_http_ready(port: int, path: str, tls: ssl.SSLContext | None = None) -> bool:
    """True if GET answers 200, over TLS where the port has it."""
    scheme = "http" if tls is None else "https"
    try:
        async with (
            asyncio.timeout(PROBE_DEADLINE_S),
            httpx.AsyncClient(trust_env=False, verify=tls or _no_tls()) as client,
            client.stream("GET", f"{scheme}://{HOST}:{port}{path}") as answer,
        ):
            return answer.status_code == HTTPStatus.OK
    except (httpx.HTTPError, TimeoutError):
        return False


async def is_store_ready(url: str) -> bool:
    """True if PING is answered, which a store that still loads its log does not."""
    store = redis.Redis.from_url(url, single_connection_client=True, retry=Retry(NoBackoff(), 0))
    try:
        async with asyncio.timeout(PROBE_DEADLINE_S):
            return bool(await store.ping())
    except (RedisError, OSError, TimeoutError):
        return False
    finally:
        await store.aclose()


async def is_kafka_ready(port: int, brokers: str) -> bool:
    """True if the metadata lists a broker, which is when topics can be created."""
    if not await _accepts(port):
        return False
    client = AIOKafkaClient(
        **client_options(brokers), request_timeout_ms=int(PROBE_DEADLINE_S * 1000)
    )
    try:
        await client.bootstrap()
        return bool(client.cluster.brokers())
    except KafkaError:
        return False
    finally:
        await client.close()


def owns_port(pid: int, port: int) -> bool:
    """True if the process listens on the port; also where the system does not tell."""
    try:
        connections = psutil.Process(pid).net_connections("tcp")
    except psutil.AccessDenied:
        return True
    except psutil.NoSuchProcess:
        return False
    return any(c.laddr.port == port and c.status == psutil.CONN_LISTEN for c in connections)


async def _accepts(port: int) -> bool:
    try:
        async with asyncio.timeout(PROBE_DEADLINE_S):
            _, writer = await asyncio.open_connection(HOST, port)
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True
