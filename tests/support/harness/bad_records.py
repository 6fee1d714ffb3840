"""Records that a log should not have, as a foreign hand or another version would write them."""

from __future__ import annotations

from typing import Any

from aiokafka import AIOKafkaProducer

from deploy.embedded.config_keys import signer_of_stack
from deploy.embedded.state import Memory
from schemas.codec import encode
from schemas.events import ConfigEntry
from schemas.outgoing import Outgoing
from schemas.runtime.kafka.access import client_options
from schemas.topics import CONFIG, REQUESTS

REFUSED_MODEL = "newer"
"""The model of the entry that is refused."""


async def append_poison(brokers: str) -> None:
    """A record that is none."""
    await _append(brokers, REQUESTS, b"demo", b"\x01 no record of ours")


async def append_refused_entry(brokers: str, memory: Memory) -> None:
    """An entry of the configuration that an older version let pass: its backend does not exist."""
    entry = ConfigEntry(
        kind="model",
        id=REFUSED_MODEL,
        version=1_000,
        body='{"backends":[{"backend":"gone","weight":1}]}',
        written_at_ms=0,
        written_by="an older version",
    )
    key = f"model/{REFUSED_MODEL}".encode()
    signed = signer_of_stack(memory, "admin").signed(Outgoing(CONFIG, key, encode(entry)))
    await _append(brokers, CONFIG, key, signed.value, headers=list(signed.headers))


async def _append(brokers: str, topic: str, key: bytes, value: bytes | None, **more: Any) -> None:
    producer = AIOKafkaProducer(**client_options(brokers))
    await producer.start()
    try:
        await producer.send_and_wait(topic, value, key=key, **more)
    finally:
        await producer.stop()
