"""A month of usage, written into a running stack within minutes: usage lines, and the tables that count them.

`python -m tests.load.usage_lines --brokers B --ledger URL --lines 1000000`. Organizations, keys, models and
backends are told apart; ids carry the times of a month, and the log gives each record the time of its line, as
if it had been appended then. A few lines are corrections, second attempts, and copies of others, as delivery
at least once leaves them. What the tables say is added up here, beside the lines, so that `ledger verify` has
to find no difference.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from confluent_kafka import Producer

from schemas.events import RecordRef, UsageRecorded
from schemas.ids import uuid7
from schemas.outgoing import usage_record
from schemas.partitions import partition_of
from schemas.topics import OUTCOMES, TOPICS, USAGE_RECORDS
from tests.support.harness.foreign_store import open_foreign
from tests.support.harness.ledger_view import key_of

ORGANIZATIONS: Final = 5
KEYS: Final = 4
MODELS: Final = ("small", "large", "embedder")
BACKENDS: Final = ("east", "west")
SPAN_MS: Final = 30 * 24 * 3_600_000
_TO_LOG_MS: Final = 300
_QUEUE_MAX: Final = 200_000
_FLUSH_WITHIN_S: Final = 60.0
_TABLES_PER_STEP: Final = 50
_KEPT_DAYS: Final = 40
_PRICE_NANO_USD: Final = (500, 1_500)
_APPENDED_AS_SENT: Final = {"message.timestamp.type": "CreateTime"}


@dataclass(frozen=True)
class Written:
    """What was written: how many records, how many distinct lines, and the id of one request in a hundred."""

    records: int
    lines: int
    request_ids: list[str]


@dataclass
class Month:
    """Lines in the order of time, from a seed, and what they add up to."""

    lines: int
    until_ms: int
    seed: int = 1
    tables: dict[tuple[str, str], Counter[str]] = field(
        default_factory=lambda: defaultdict(Counter)
    )
    """By organization and hour: the fields of the usage table."""

    def __iter__(self) -> Iterator[UsageRecorded]:
        """Every distinct line once."""
        chance = random.Random(self.seed)
        first_ms = self.until_ms - SPAN_MS
        written = 0
        while written < self.lines:
            at_ms = first_ms + SPAN_MS * written // self.lines
            for line in _request(chance, at_ms, written)[: self.lines - written]:
                self._count(line)
                written += 1
                yield line

    def _count(self, line: UsageRecorded) -> None:
        hour = datetime.fromtimestamp(line.finished_at_ms / 1_000, UTC).strftime("%Y-%m-%dT%H")
        row = "\t".join((line.key_id, line.user or "-", line.model, line.backend))
        table = self.tables[line.org, hour]
        if line.revision == 0:
            table[f"{row}\tattempts"] += 1
            table[f"{row}\trequests"] += line.attempt == 1
        for name in ("input_tokens", "output_tokens", "cached_tokens", "cost_nano_usd"):
            table[f"{row}\t{name}"] += getattr(line, name)


def _request(chance: random.Random, at_ms: int, number: int) -> list[UsageRecorded]:
    """One request: an attempt, now and then a second one or a correction."""
    org = f"scanned-{chance.randrange(ORGANIZATIONS)}"
    tokens = chance.randrange(20, 4_000), chance.randrange(1, 800)
    first = UsageRecorded(
        usage_id="",
        request_id=uuid7(at_ms, chance.randbytes(10)),
        org=org,
        key_id=f"key_{org}_{chance.randrange(KEYS)}",
        attempt=1,
        revision=0,
        route="chat.completions",
        model=chance.choice(MODELS),
        backend=chance.choice(BACKENDS),
        status="succeeded",
        started_at_ms=at_ms + 5,
        finished_at_ms=at_ms + chance.randrange(100, 9_000),
        input_tokens=tokens[0],
        output_tokens=tokens[1],
        cached_tokens=tokens[0] // 4,
        reasoning_tokens=0,
        estimated=False,
        price_version="v1",
        cost_nano_usd=sum(n * price for n, price in zip(tokens, _PRICE_NANO_USD, strict=True)),
        outcome=RecordRef(topic=OUTCOMES, partition=0, offset=number),
    )
    more: list[dict[str, Any]] = [{}]
    kind = chance.random()
    if kind < 0.02:
        more.append({"attempt": 2})
    elif kind < 0.03:
        more.append({"revision": 1, "output_tokens": -tokens[1] // 2, "cost_nano_usd": -7})
    return [_changed(first, change) for change in more]


def _changed(line: UsageRecorded, change: dict[str, Any]) -> UsageRecorded:
    fields = {name: getattr(line, name) for name in line.__struct_fields__} | change
    fields["usage_id"] = f"{line.request_id}:{fields['attempt']}:{fields['revision']}"
    return UsageRecorded(**fields)


async def write_month(brokers: str, ledger_url: str, lines: int, partitions: int) -> Written:
    """Write so many lines and their tables; what stood there stays."""
    month = Month(lines, time.time_ns() // 1_000_000 - 60_000)
    async with _append_times_as_sent(brokers):
        written = await asyncio.to_thread(_produce, brokers, month, partitions)
    await asyncio.to_thread(_write_tables, ledger_url, month)
    return written


def _produce(brokers: str, month: Month, partitions: int) -> Written:
    chance = random.Random(month.seed)
    settings = {
        "bootstrap.servers": brokers,
        "queue.buffering.max.messages": _QUEUE_MAX,
        "linger.ms": 20,
        "enable.idempotence": True,
    }
    producer = Producer(settings)
    records, request_ids = 0, []
    for number, line in enumerate(month):
        record = usage_record(line)
        # One in two hundred is appended twice, as after a restart of accounting.
        for _ in range(1 + (chance.random() < 0.005)):
            records += 1
            while True:
                try:
                    producer.produce(
                        USAGE_RECORDS, record.value, record.key,
                        partition_of(record.key, partitions), headers=list(record.headers),
                        timestamp=line.finished_at_ms + _TO_LOG_MS,
                    )  # fmt: skip
                    break
                except BufferError:
                    producer.poll(0.1)
        if number % 100 == 0:
            request_ids.append(line.request_id)
            producer.poll(0)
    assert producer.flush(_FLUSH_WITHIN_S) == 0
    return Written(records, month.lines, request_ids)


def _write_tables(ledger_url: str, month: Month) -> None:
    tables = list(month.tables.items())
    with open_foreign(ledger_url) as store:
        for start in range(0, len(tables), _TABLES_PER_STEP):
            pipeline = store.pipeline(transaction=False)
            for (org, hour), fields in tables[start : start + _TABLES_PER_STEP]:
                key = key_of(org, f"u:{hour}")
                for name, amount in fields.items():
                    pipeline.hincrby(key, name, amount)
                pipeline.expire(key, _KEPT_DAYS * 24 * 3_600)
            pipeline.execute()


@asynccontextmanager
async def _append_times_as_sent(brokers: str) -> Any:
    """While it lasts the log takes the times that records come with, as it had then."""
    settings = next(topic.settings() for topic in TOPICS if topic.name == USAGE_RECORDS)
    admin = AIOKafkaAdminClient(bootstrap_servers=brokers)
    await admin.start()
    try:
        await _alter(admin, settings | _APPENDED_AS_SENT)
        yield
        await _alter(admin, settings)
    finally:
        await admin.close()


async def _alter(admin: AIOKafkaAdminClient, settings: dict[str, str]) -> None:
    wanted = ConfigResource(ConfigResourceType.TOPIC, USAGE_RECORDS, configs=settings)
    await admin.alter_configs([wanted])


def main() -> None:
    """Write, and say what."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--brokers", required=True)
    options.add_argument("--ledger", required=True, metavar="URL")
    options.add_argument("--lines", type=int, default=1_000_000)
    options.add_argument("--partitions", type=int, default=4)
    chosen = options.parse_args()
    began_s = time.perf_counter()
    written = asyncio.run(
        write_month(chosen.brokers, chosen.ledger, chosen.lines, chosen.partitions)
    )
    seconds = time.perf_counter() - began_s
    print(f"{written.lines} lines in {written.records} records within {seconds:.0f} s")


if __name__ == "__main__":
    main()
