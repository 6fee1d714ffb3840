"""How long a lost ledger is closed: outcomes since the snapshots, organizations, time to ready, memory.

`python -m tests.load.rebuild_speed [--outcomes 600000] [--organizations 10000]` starts Kafka and a store, writes
snapshots of every organization with a checkpoint, then the outcomes, as if they had ended within the last minutes.
The owner of all shards, a process of its own as accounting is, finds the store empty and rebuilds it. The
oracle is what was written: exit code 1 when a total differs.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Final

import msgspec
import psutil
import redis
from confluent_kafka import Producer

from schemas.events import Attempt, Booking, RequestFinished, ShardCheckpoint, TableSnapshot
from schemas.ids import uuid7
from schemas.ledger.keys import META, of_org, of_shard
from schemas.ledger.shards import Shards
from schemas.outgoing import Outgoing, checkpoint_record, outcome_record, table_record
from schemas.runtime.kafka.topic_admin import apply_topics
from tests.support.harness.infrastructure import infrastructure

SHARDS: Final = Shards(4)
SPAN_MS: Final = 10 * 60_000
SNAPSHOT_TOKENS: Final = 1_000
READY_WITHIN_S: Final = 300.0
_BALANCES: Final = ("b:org/tokens:2099-01", "b:org/nano_usd:2099-01")
_QUEUE_MAX: Final = 200_000
_SAMPLE_S: Final = 0.1
_MIB: Final = 1 << 20
_OWNER: Final = "tests.load.shard_owner"


@dataclass
class Written:
    """What the log says, by organization."""

    tokens: Counter[str]


def _snapshots(organizations: list[str], now_ms: int) -> Iterator[Outgoing]:
    for org in organizations:
        for balance in _BALANCES:
            yield table_record(
                TableSnapshot(
                    org=org,
                    table="balances",
                    partition=SHARDS.of(org),
                    offset=-1,
                    values={balance: SNAPSHOT_TOKENS},
                    taken_at_ms=now_ms,
                )
            )
    for shard in SHARDS:
        yield checkpoint_record(
            ShardCheckpoint(shard=shard, offset=-1, appended_at_ms=0, epoch=1, taken_at_ms=now_ms)
        )


def _outcomes(
    count: int, organizations: list[str], until_ms: int, written: Written
) -> Iterator[Outgoing]:
    one = Attempt(
        attempt=1,
        backend="east",
        status="succeeded",
        started_at_ms=0,
        finished_at_ms=0,
        upstream_status=200,
        price_version="small@1",
    )
    for number in range(count):
        at_ms = until_ms - SPAN_MS + SPAN_MS * number // count
        org, tokens = organizations[number % len(organizations)], 1 + number % 97
        event = RequestFinished(
            request_id=uuid7(at_ms - 900, number.to_bytes(10)),
            org=org,
            key_id=f"key_{number % 7}",
            route="chat.completions",
            model="small",
            status="completed",
            http_status=200,
            accepted_at_ms=at_ms - 900,
            finished_at_ms=at_ms,
            deadline_ms=at_ms + 119_100,
            fence=2**32 + 1,
            attempts=[
                msgspec.structs.replace(
                    one, started_at_ms=at_ms - 800, finished_at_ms=at_ms, input_tokens=tokens
                )
            ],
            bookings=[Booking(key=key, unit="tokens", amount=tokens) for key in _BALANCES],
            parents=[],
        )
        written.tokens[org] += tokens
        more = {"request_id": event.request_id.encode(), "deadline_ms": b"%d" % event.deadline_ms}
        yield outcome_record(event, "dispatcher", more)


def write(brokers: str, count: int, organizations: list[str]) -> Written:
    """Snapshots, a checkpoint, and the outcomes after it."""
    producer = Producer(
        {
            "bootstrap.servers": brokers,
            "partitioner": "murmur2_random",
            "queue.buffering.max.messages": _QUEUE_MAX,
            "linger.ms": 20,
            "batch.size": 512 * 1024,
        }
    )
    now_ms, written = int(time.time() * 1_000), Written(Counter())
    for record in chain(
        _snapshots(organizations, now_ms), _outcomes(count, organizations, now_ms, written)
    ):
        where: dict[str, Any] = {} if record.partition is None else {"partition": record.partition}
        while True:
            try:
                producer.produce(
                    record.topic, record.value, record.key, headers=list(record.headers), **where
                )
                break
            except BufferError:
                producer.poll(0.1)
        producer.poll(0)
    producer.flush(120)
    return written


async def measure(brokers: str, ledger_url: str) -> dict[str, Any]:
    """Start the owner, and watch the store and its memory until every shard is whole."""
    began_s = time.monotonic()
    owner = await asyncio.create_subprocess_exec(
        sys.executable, "-m", _OWNER, brokers, ledger_url, stdout=asyncio.subprocess.PIPE
    )
    found: dict[str, Any] = {"memory_mib": 0}
    assert owner.stdout is not None
    began_s = float((await owner.stdout.readline()).decode())
    process = psutil.Process(owner.pid)
    try:
        with redis.Redis.from_url(ledger_url) as store:
            while "whole_s" not in found and time.monotonic() - began_s < READY_WITHIN_S:
                family = [process, *process.children(recursive=True)]
                memory = sum(each.memory_info().rss for each in family) // _MIB
                found["memory_mib"] = max(found["memory_mib"], memory)
                for field, name in (("ready", "ready_s"), ("complete", "whole_s")):
                    if name not in found and await asyncio.to_thread(_is, store, field):
                        found[name] = round(time.monotonic() - began_s, 2)
                await asyncio.sleep(_SAMPLE_S)
            found["store_mib"] = store.info("memory")["used_memory"] // _MIB
    finally:
        owner.kill()
        await owner.wait()
    return found


def _is(store: redis.Redis, field: str) -> bool:
    return all(store.hget(of_shard(shard, META), field) == b"1" for shard in SHARDS)


def differing(ledger_url: str, written: Written) -> list[str]:
    """Organizations whose total is not what was written."""
    with redis.Redis.from_url(ledger_url) as store:
        pipe = store.pipeline(transaction=False)
        for org in written.tokens:
            pipe.hget(of_org(SHARDS.of(org), org, f"t{_BALANCES[0][1:]}"), "settled")
        totals = dict(zip(written.tokens, pipe.execute(), strict=True))
    return [
        org
        for org, tokens in written.tokens.items()
        if int(totals[org] or 0) != tokens + SNAPSHOT_TOKENS
    ]


async def run(options: argparse.Namespace) -> int:
    """Write, lose, rebuild, compare, report."""
    organizations = [f"org-{number}" for number in range(options.organizations)]
    with tempfile.TemporaryDirectory(prefix="tallygate-rebuild-") as folder:
        async with infrastructure(Path(folder) / "state") as stack:
            await apply_topics(stack.kafka_brokers, SHARDS.count)
            written = await asyncio.to_thread(
                write, stack.kafka_brokers, options.outcomes, organizations
            )
            found = await measure(stack.kafka_brokers, stack.ledger_url)
            wrong = await asyncio.to_thread(differing, stack.ledger_url, written)
    found |= {
        "outcomes": options.outcomes,
        "organizations": len(organizations),
        "differing": len(wrong),
    }
    print(json.dumps(found))
    return 1 if wrong or "whole_s" not in found else 0


def main() -> int:
    """Run with the numbers given."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--outcomes", type=int, default=600_000)
    options.add_argument("--organizations", type=int, default=10_000)
    return asyncio.run(run(options.parse_args()))


if __name__ == "__main__":
    sys.exit(main())
