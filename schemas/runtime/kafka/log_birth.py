"""Says in the config log which log this is, once for each time that its topics were made.

Whoever kept something of an earlier log (a store, a copy of the configuration) sees that this is another one.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

import msgspec
from aiokafka import TopicPartition

from schemas.codec import UNDECODABLE, decode_as
from schemas.config_signing import Signer, signed
from schemas.config_state import BIRTH, Birth, ConfigState
from schemas.events import ConfigEntry
from schemas.outgoing import Outgoing, config_record
from schemas.runtime.kafka.free_consumer import free_consumer, positions_in
from schemas.runtime.kafka.produce import ProduceFailed, Producer
from schemas.runtime.process.clock import Clock, random_bytes
from schemas.runtime.process.retry import retry_until
from schemas.topics import CONFIG, OUTCOMES

__all__ = ["birth_after", "state_birth"]

_ID_BYTES: Final = 16
_POLL_MS: Final = 200
_WITHIN_S: Final = 20.0
_WRITTEN_BY: Final = "topics apply"


def birth_after(known: Birth | None, made: Collection[str], new_id: str) -> Birth | None:
    """The birth to write once these topics were made; ``None`` when the known one stands. Pure.

    What a config log that is gone said of outcomes that stand, nobody knows any more.
    """
    if known is None:
        is_known_new = OUTCOMES in made or CONFIG not in made
        return Birth(new_id, new_id if is_known_new else "")
    return Birth(known.config, new_id) if OUTCOMES in made else None


async def state_birth(brokers: str, made: Collection[str], signer: Signer | None = None) -> None:
    """Write a birth where none stands, or where these topics were just made.

    Raises ``KafkaError``, and ``TimeoutError`` when the broker does not take it.
    """
    clock = Clock()
    # Of a topic that was just made this waits for its leader, and finds nothing.
    known = await _known(brokers)
    birth = birth_after(known, made, random_bytes(_ID_BYTES).hex())
    if birth is None:
        return
    now_ms = clock.now_ms()
    entry = ConfigEntry(
        kind=BIRTH[0],
        id=BIRTH[1],
        # Time is its version: an earlier one may be lost.
        version=now_ms,
        body=msgspec.json.encode(birth).decode(),
        written_at_ms=now_ms,
        written_by=_WRITTEN_BY,
    )
    record = signed(config_record(entry), signer)
    await _produce(brokers, record, clock.monotonic_s() + _WITHIN_S)


async def _produce(brokers: str, record: Outgoing, deadline_s: float) -> None:
    producer = Producer(brokers, _WRITTEN_BY.replace(" ", "-"))
    try:
        await retry_until(lambda: producer.start((CONFIG,)), ProduceFailed, deadline_s)
        await producer.deliver([record], deadline_s)
    except ProduceFailed as error:
        raise TimeoutError(f"{CONFIG}: {error}") from error
    finally:
        await producer.stop()


async def _known(brokers: str) -> Birth | None:
    """What the config log says now."""
    state, partition = ConfigState(), TopicPartition(CONFIG, 0)
    async with free_consumer(brokers) as consumer:
        at = (await positions_in(consumer, [partition]))[partition]
        consumer.assign([partition])
        consumer.seek(partition, at.begin)
        while await consumer.position(partition) < at.end:
            found = await consumer.getmany(partition, timeout_ms=_POLL_MS)
            for record in found.get(partition, ()):
                if record.key == "/".join(BIRTH).encode():
                    try:
                        state.apply(decode_as(record.value, ConfigEntry), record.offset)
                    except UNDECODABLE:
                        continue
    return state.birth
