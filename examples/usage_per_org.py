"""What each organization has cost so far, from the usage topic: a plain Kafka client, Avro, and nothing of the gateway.

KAFKA_BROKERS says where; SCHEMAS is the folder that `tallygate schemas export` has filled.
Reads to the end that the topic has now. Money is summed in integers of 1e-9 USD.
"""

from __future__ import annotations

import io
import json
import os
import struct
from collections import Counter
from pathlib import Path

import fastavro
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, TopicPartition

TOPIC = "usage.records.v1"
HEADER = struct.Struct(">bI")
"""A zero byte and the id of the schema that wrote the record, before each value."""
NANO_PER_USD = 10**9
POLL_S = 10.0

folder = Path(os.environ["SCHEMAS"])
subjects = json.loads((folder / "subjects.json").read_text())["subjects"]
schemas = {
    version["id"]: fastavro.parse_schema(json.loads((folder / version["file"]).read_text()))
    for subject in subjects
    if subject["topic"] == TOPIC
    for version in subject["versions"]
}


def decode(value: bytes) -> dict:
    """The usage line in a record."""
    _, schema_id = HEADER.unpack_from(value)
    return fastavro.schemaless_reader(io.BytesIO(value[HEADER.size :]), schemas[schema_id], None)


consumer = Consumer(
    {
        "bootstrap.servers": os.environ["KAFKA_BROKERS"],
        "group.id": "usage-per-org",
        "enable.auto.commit": False,
    }
)
partitions = consumer.list_topics(TOPIC, timeout=POLL_S).topics[TOPIC].partitions
ends = {
    p: consumer.get_watermark_offsets(TopicPartition(TOPIC, p), timeout=POLL_S) for p in partitions
}
unread = {p for p, (first, end) in ends.items() if first < end}
consumer.assign([TopicPartition(TOPIC, p, OFFSET_BEGINNING) for p in unread])

seen: set[str] = set()
cost_nano_usd: Counter[str] = Counter()
lines: Counter[str] = Counter()
while unread:
    message = consumer.poll(POLL_S)
    if message is None:
        raise TimeoutError(f"nothing from partitions {sorted(unread)}")
    if message.error():
        raise KafkaException(message.error())
    line = decode(message.value())
    # Delivery is at least once: a line may come again, byte for byte, under the same id.
    if line["usage_id"] not in seen:
        seen.add(line["usage_id"])
        lines[line["org"]] += 1
        cost_nano_usd[line["org"]] += line["cost_nano_usd"] or 0
    if message.offset() + 1 >= ends[message.partition()][1]:
        unread.discard(message.partition())
consumer.close()

for org in sorted(lines):
    usd, rest = divmod(cost_nano_usd[org], NANO_PER_USD)
    print(f"{org}\t{lines[org]} lines\t{usd}.{rest:09} USD")
