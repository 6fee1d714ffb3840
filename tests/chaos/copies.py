"""Produces records of the log again, byte for byte and at later offsets, as a producer's retry would."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Final

from confluent_kafka import OFFSET_BEGINNING, Consumer, Message, Producer, TopicPartition

ANSWER_WITHIN_S: Final = 10.0
READ_DEADLINE_S: Final = 60.0
DELIVERY_DEADLINE_S: Final = 30.0
REQUESTS: Final = "inference.requests.v1"
BACKGROUND: Final = "inference.background.v1"
DISPATCH: Final = "inference.dispatch.v1"
OUTCOMES: Final = "inference.outcomes.v1"


def read_all(brokers: str, topic: str) -> list[Message]:
    """The records that a topic holds now, as they are; what is appended meanwhile is left."""
    settings = {"bootstrap.servers": brokers, "group.id": "copies", "enable.auto.commit": False}
    consumer = Consumer({**settings, "enable.partition.eof": True})
    records: list[Message] = []
    try:
        known = consumer.list_topics(topic, timeout=ANSWER_WITHIN_S).topics[topic].partitions
        partitions = [TopicPartition(topic, p, OFFSET_BEGINNING) for p in known]
        ends = {p.partition: _end_of(consumer, p) for p in partitions}
        consumer.assign(partitions)
        open_partitions = set(known)
        end_s = time.monotonic() + READ_DEADLINE_S
        while open_partitions:
            assert time.monotonic() < end_s, f"{topic} was not read in {READ_DEADLINE_S} s"
            for message in consumer.consume(1_000, timeout=1.0):
                partition, offset = message.partition() or 0, message.offset() or 0
                if message.error() is None and offset < ends[partition]:
                    records.append(message)
                if message.error() is not None or offset >= ends[partition] - 1:
                    open_partitions.discard(partition)
    finally:
        consumer.close()
    return records


def _end_of(consumer: Consumer, partition: TopicPartition) -> int:
    offsets = consumer.get_watermark_offsets(partition, timeout=ANSWER_WITHIN_S)
    assert offsets is not None, f"the broker does not tell the end of {partition}"
    return int(offsets[1])


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
