"""Produces records of the log again, byte for byte and at later offsets, as a producer's retry would."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from confluent_kafka import OFFSET_BEGINNING, Consumer, Message, Producer, TopicPartition

SILENCE_S: Final = 1.0
DELIVERY_DEADLINE_S: Final = 30.0
REQUESTS: Final = "inference.requests.v1"
BACKGROUND: Final = "inference.background.v1"
DISPATCH: Final = "inference.dispatch.v1"
OUTCOMES: Final = "inference.outcomes.v1"


def read_all(brokers: str, topic: str) -> list[Message]:
    """The records of a topic as they are, up to its end."""
    consumer = Consumer(
        {"bootstrap.servers": brokers, "group.id": "copies", "enable.auto.commit": False}
    )
    records: list[Message] = []
    try:
        partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
        consumer.assign([TopicPartition(topic, p, OFFSET_BEGINNING) for p in partitions])
        while batch := consumer.consume(1_000, timeout=SILENCE_S):
            records += [message for message in batch if not message.error()]
    finally:
        consumer.close()
    return records


def copy_all(brokers: str, topics: Sequence[str]) -> int:
    """Append everything these topics hold to them once more; how many records that were."""
    producer = Producer({"bootstrap.servers": brokers, "acks": "all", "linger.ms": 5})
    count = 0
    for topic in topics:
        for record in read_all(brokers, topic):
            headers: Any = record.headers()
            producer.produce(
                topic,
                record.value(),
                record.key(),
                partition=record.partition() or 0,
                headers=headers,
            )
            producer.poll(0)
            count += 1
    assert producer.flush(DELIVERY_DEADLINE_S) == 0, "the broker did not take the copies"
    return count
