"""Every consumer group is reset to the earliest offset, and nothing is called, billed or answered a second time.

`python -m tests.chaos.group_reset` serves requests of all kinds on `tallygate up`: plain, streamed, with an idempotency key, as jobs,
refused by a quota. The stack is stopped, each group is committed at the oldest offset of each topic that it reads, as
`kafka-consumer-groups --reset-offsets --to-earliest` does, and the stack goes on. Oracles are the backends' own log, where the
topics end, and the clients' answers. Exit code 1 on a finding.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import aiohttp
import httpx
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError
from aiokafka.structs import OffsetAndMetadata
from confluent_kafka import Consumer
from confluent_kafka import TopicPartition as Place

from schemas.runtime.kafka.topic_admin import list_topics
from schemas.topics import OUTCOMES, READ_BY, SPEND_GROUP, TOPICS, USAGE_RECORDS, group_of
from tests.support.fakes.call_log import read_calls
from tests.support.fakes.running_backend import RunningBackend, running_backend
from tests.support.harness.gateway_client import MODEL, GatewayClient, Reply
from tests.support.harness.infrastructure import infrastructure
from tests.support.harness.jobs_api import chat, jobs_client, until_ended
from tests.support.harness.running_stack import RunningStack, running_stack

PLAIN: Final = 30
STREAMS: Final = 10
KEYED: Final = 5
JOBS: Final = 5
QUOTA: Final = 2
_SET_WITHIN_S: Final = 60.0
_CALM_WITHIN_S: Final = 90.0
_CALM_S: Final = 12.0
"""Longer than a snapshot round, a commit and a look at the marks take together."""
_WATCHED: Final = [
    t.name for t in TOPICS if not t.name.startswith(("usage.tables", "config.", "audit."))
]
_GROUPS: Final = {group_of(role): topics for role, topics in READ_BY.items()} | {
    SPEND_GROUP: (OUTCOMES,)
}


@dataclass(frozen=True)
class Served:
    """What clients were told, by what they can ask for again."""

    replies: list[Reply]
    keyed: dict[str, Reply]
    jobs: dict[str, dict[str, Any]]
    refused: list[int]


@dataclass
class Findings:
    """What is not as it was."""

    lines: list[str] = field(default_factory=list)

    def same(self, what: str, before: object, after: object) -> None:
        """Note a difference, and say what was compared."""
        print(f"{what}: {'the same' if before == after else 'DIFFERS'}", flush=True)
        if before != after:
            self.lines.append(f"{what}: {before} before, {after} after")


async def serve(stack: RunningStack, session: aiohttp.ClientSession, tight_key: str) -> Served:
    """Requests of all kinds, once each."""
    client, key = GatewayClient(session, stack.api_url), stack.first_key
    plain = await asyncio.gather(
        *(client.chat(key, f"plain {n}", max_tokens=9) for n in range(PLAIN))
    )
    streams = await asyncio.gather(
        *(client.chat(key, f"stream {n}", stream=True, max_tokens=9) for n in range(STREAMS))
    )
    keyed = {f"key-{n}": await _keyed(client, key, f"key-{n}") for n in range(KEYED)}
    jobs: dict[str, dict[str, Any]] = {}
    async with jobs_client(stack.api_url, key) as api:
        for number in range(JOBS):
            made = (await api.post("/jobs", json=chat(f"job {number}", max_tokens=9))).json()
            jobs[made["id"]] = await until_ended(api, made["id"])
    refused = [(await client.chat(tight_key, f"tight {n}", max_tokens=9)).status for n in range(5)]
    return Served([*plain, *streams], keyed, jobs, refused)


async def _keyed(client: GatewayClient, key: str, name: str) -> Reply:
    body = {"model": MODEL, "messages": [{"role": "user", "content": name}], "max_tokens": 9}
    return await client.post("/chat/completions", key, body, {"Idempotency-Key": name})


def tight(stack: RunningStack) -> str:
    """A key of an organization whose quota is soon spent."""
    with httpx.Client(base_url=stack.admin_url, timeout=30, trust_env=False) as admin:
        quota = {"amount": QUOTA, "unit": "requests", "period": "month"}
        admin.put("/orgs/tight", json={"limits": {"quotas": [quota]}}).raise_for_status()
        made = admin.post("/keys", json={"org": "tight", "name": "test"}).raise_for_status().json()
        return str(made["key"])


def ends(brokers: str) -> dict[str, int]:
    """Where each partition ends that a second handling would make longer."""
    consumer = Consumer({"bootstrap.servers": brokers, "group.id": "reset-check"})
    try:
        return {
            f"{name}-{number}": consumer.get_watermark_offsets(Place(name, number), timeout=10)[1]
            for name in _WATCHED
            for number in consumer.list_topics(name, timeout=10).topics[name].partitions
        }
    finally:
        consumer.close()


def totals(ends_of: Mapping[str, int], topic: str) -> int:
    """Records of a topic."""
    return sum(end for name, end in ends_of.items() if name.rpartition("-")[0] == topic)


async def reset(brokers: str) -> int:
    """Commit every group at the oldest offset of all that it reads; how many partitions that were."""
    count, states = 0, await list_topics(brokers)
    partitions = {state.name: state.partitions for state in states}
    for group, topics in _GROUPS.items():
        consumer = AIOKafkaConsumer(
            bootstrap_servers=brokers, group_id=group, enable_auto_commit=False
        )
        await consumer.start()
        try:
            for topic in topics:
                places = [TopicPartition(topic, n) for n in range(partitions[topic])]
                consumer.assign(places)
                begins = await consumer.beginning_offsets(places)
                await _commit(consumer, {at: OffsetAndMetadata(n, "") for at, n in begins.items()})
                count += len(places)
        finally:
            await consumer.stop()
    return count


async def _commit(consumer: AIOKafkaConsumer, offsets: dict[Any, OffsetAndMetadata]) -> None:
    """As soon as the broker lets somebody who is no member."""
    end_s = time.monotonic() + _SET_WITHIN_S
    while True:
        try:
            await consumer.commit(offsets)
        except KafkaError:
            if time.monotonic() > end_s:
                raise
            await asyncio.sleep(1.0)
        else:
            return


async def calm(stack: RunningStack) -> None:
    """Returns once no worker is behind, and has not been for a while."""
    end_s, since_s = time.monotonic() + _CALM_WITHIN_S, None
    async with httpx.AsyncClient(base_url=stack.admin_url, timeout=30, trust_env=False) as admin:
        while time.monotonic() < end_s:
            items = (await admin.get("/lag")).raise_for_status().json()["items"]
            is_calm = not sum(item["lag"] or 0 for item in items)
            since_s = (since_s or time.monotonic()) if is_calm else None
            if since_s is not None and time.monotonic() - since_s > _CALM_S:
                return
            await asyncio.sleep(0.5)
    raise RuntimeError(f"workers are behind: {[item for item in items if item['lag']]}")


async def difference(stack: RunningStack) -> Any:
    """What verification says."""
    async with httpx.AsyncClient(base_url=stack.admin_url, timeout=90, trust_env=False) as admin:
        answer = await admin.get("/ledger/verify", params={"deadline_s": 20})
        return answer.raise_for_status().json()["difference"]


async def usage(stack: RunningStack) -> Any:
    """What the reports say was used."""
    async with httpx.AsyncClient(base_url=stack.admin_url, timeout=30, trust_env=False) as admin:
        return (await admin.get("/usage")).raise_for_status().json()["rows"]


async def run(folder: Path, findings: Findings) -> None:
    """Serve, stop, reset, go on, compare."""
    with ExitStack() as backends_running:
        backends = [
            backends_running.enter_context(running_backend(name, folder / f"{name}.jsonl"))
            for name in ("fake-a", "fake-b")
        ]
        state = folder / "state"
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60)) as session:
            with running_stack(state, backends) as stack:
                tight_key = await asyncio.to_thread(tight, stack)
                served = await serve(stack, session, tight_key)
                await calm(stack)
                before = await facts(stack, backends)
                await asyncio.to_thread(stack.stop)
            async with infrastructure(state) as infra:
                done = await reset(infra.kafka_brokers)
            print(
                f"{len(_GROUPS)} groups reset to the earliest offset, {done} partitions", flush=True
            )
            with running_stack(state, backends) as stack:
                await calm(stack)
                after = await facts(stack, backends)
                for name, fact in before.items():
                    findings.same(name, fact, after[name])
                await judge(stack, session, tight_key, served, findings)
                findings.same(
                    "calls of keyed requests",
                    len(read_calls(*_logs(backends))),
                    before["calls"] + 1,
                )
                findings.same("difference", 0, await difference(stack))


def _logs(backends: list[RunningBackend]) -> tuple[Path, ...]:
    return tuple(backend.log for backend in backends)


async def facts(stack: RunningStack, backends: list[RunningBackend]) -> dict[str, Any]:
    """What must not change."""
    at = await asyncio.to_thread(ends, stack.kafka)
    return {
        "calls": len(read_calls(*_logs(backends))),
        "ends of topics": at,
        "outcomes": totals(at, OUTCOMES),
        "usage lines": totals(at, USAGE_RECORDS),
        "usage reports": await usage(stack),
        "difference": await difference(stack),
    }


async def judge(
    stack: RunningStack,
    session: aiohttp.ClientSession,
    tight_key: str,
    served: Served,
    findings: Findings,
) -> None:
    """Clients hear what they heard; one new request is served, and nothing else is called for."""
    client, key = GatewayClient(session, stack.api_url), stack.first_key
    findings.same(
        "plain and streamed requests succeeded", {200}, {r.status for r in served.replies}
    )
    findings.same("refusals", [200, 200, 402, 402, 402], served.refused)
    for name, reply in served.keyed.items():
        again = await _keyed(client, key, name)
        findings.same(f"answer of {name}", reply.json["id"], again.json.get("id"))
        findings.same(f"{name} is replayed", "true", again.headers.get("Idempotent-Replayed"))
    async with jobs_client(stack.api_url, key) as api:
        for job, told in served.jobs.items():
            findings.same(f"job {job}", told, (await api.get(f"/jobs/{job}")).json())
    fresh = await client.chat(key, "one more", max_tokens=9)
    findings.same("a new request", 200, fresh.status)
    findings.same("the spent quota", 402, (await client.chat(tight_key, "no", max_tokens=9)).status)


def main() -> int:
    """Run it."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    findings = Findings()
    with tempfile.TemporaryDirectory(prefix="tallygate-reset-") as folder:
        asyncio.run(run(Path(folder), findings))
    for line in findings.lines:
        print(f"FINDING {line}")
    print(f"findings {len(findings.lines)}")
    return 1 if findings.lines else 0


if __name__ == "__main__":
    sys.exit(main())
