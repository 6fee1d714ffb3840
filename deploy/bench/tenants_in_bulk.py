"""Organizations and keys by the thousand, written into the configuration as the control plane writes them.

Through the admin API each would be judged against all others, which takes minutes for a hundred thousand.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import msgspec
from aiokafka import AIOKafkaProducer

from deploy.bench.connection import OK, Connection
from deploy.bench.requests import prepare
from deploy.bench.target import UNLIMITED, Target
from deploy.embedded.config_keys import signer_of_stack
from schemas.entities import Key, Limits, Organization
from schemas.events import ConfigEntry
from schemas.ids import KEY_RANDOM_BYTES, api_key, api_key_hash
from schemas.outgoing import config_record
from schemas.runtime.kafka.access import client_options
from schemas.runtime.process.clock import Clock, random_bytes

_LIMITS: Final = msgspec.convert(UNLIMITED, Limits)
_ACTOR: Final = "bench"
_AT_ONCE: Final = 2_000
_APPLIED_WITHIN_S: Final = 300.0
_LOOK_S: Final = 0.5
_ANSWERS_WITHIN_S: Final = 10.0


@dataclass(frozen=True)
class Tenant:
    """A key to be written, and its secret."""

    org: str
    number: int
    secret: str


def tenants(orgs: int, keys: int, prefix: str) -> list[Tenant]:
    """So many keys, spread evenly over so many organizations."""
    return [
        Tenant(f"{prefix}-{number % orgs}", number, api_key(random_bytes(KEY_RANDOM_BYTES)))
        for number in range(keys)
    ]


def entries(made: Iterable[Tenant], pepper: bytes, now_ms: int) -> Iterable[ConfigEntry]:
    """The entries that make them: each organization once, before its keys."""
    known: set[str] = set()
    for one in made:
        if one.org not in known:
            known.add(one.org)
            yield _entry("organization", one.org, Organization(limits=_LIMITS), now_ms)
        key = Key(
            org=one.org,
            hash=api_key_hash(pepper, one.secret),
            display=f"{one.secret[:12]}…{one.secret[-4:]}",
            created_at_ms=now_ms,
            limits=_LIMITS,
        )
        yield _entry("key", f"{one.org}-key-{one.number}", key, now_ms)


async def write(target: Target, made: list[Tenant]) -> None:
    """Write them, and wait until ingress serves the last one. Raises ``KafkaError``, ``TimeoutError``."""
    assert target.stack is not None, "scenarios that ask say that they need the bench's own stack"
    pepper = target.stack.memory.pepper.encode()
    signer = signer_of_stack(target.stack.memory, "admin")
    producer = AIOKafkaProducer(
        **client_options(target.stack.kafka_brokers),
        acks="all",
        enable_idempotence=True,
        linger_ms=5,
    )
    await producer.start()
    try:
        under_way: list[asyncio.Future[object]] = []
        for entry in entries(made, pepper, Clock().local_ms()):
            record = signer.signed(config_record(entry))
            under_way.append(
                await producer.send(
                    record.topic, record.value, key=record.key, headers=list(record.headers)
                )
            )
            if len(under_way) >= _AT_ONCE:
                await asyncio.gather(*under_way)
                under_way.clear()
        await asyncio.gather(*under_way)
    finally:
        await producer.stop()
    async with asyncio.timeout(_APPLIED_WITHIN_S):
        while not await _is_served(target, made[-1]):  # noqa: ASYNC110 - another process
            await asyncio.sleep(_LOOK_S)


async def _is_served(target: Target, tenant: Tenant) -> bool:
    connection = Connection(target.url)
    asked = prepare(target.url, tenant.secret, target.model, "hello", is_stream=False)
    try:
        return await connection.exchange(asked, _ANSWERS_WITHIN_S) == OK
    finally:
        connection.close()


def _entry(kind: str, entity_id: str, entity: msgspec.Struct, now_ms: int) -> ConfigEntry:
    return ConfigEntry(
        kind=kind,
        id=entity_id,
        version=1,
        body=msgspec.json.encode(entity).decode(),
        written_at_ms=now_ms,
        written_by=_ACTOR,
    )
