"""Ten thousand ends of one organization at once, beside one of another: how long each waits for its webhook.

Run as `python -m tests.chaos.webhook_burst [--messages 10000]`: the messages stand in the outbox of a stack with one dispatcher, as its fold
makes them, and the other's one behind them in the same partition. The oracle is what the receiver got. Exit code 1 when a message did
not arrive, or the neighbour's waited longer than it may. Bounded: six minutes.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import httpx

from schemas.ids import uuid7
from schemas.outgoing import webhook_record
from schemas.partitions import partition_of_org
from schemas.runtime.kafka.produce import Producer
from schemas.topics import WEBHOOKS
from schemas.webhook_messages import new_message
from tests.support.fakes.running_backend import running_backend
from tests.support.harness.running_stack import running_stack
from tests.support.webhook_receiver import WebhookReceiver, webhook_receiver

LOUD: Final = "loud"
NEAR_WITHIN_S: Final = 20.0
"""What the neighbour may wait behind them all."""
ALL_WITHIN_S: Final = 300.0


def neighbour(partitions: int) -> str:
    """An organization whose records stand in the same partition."""
    wanted = partition_of_org(LOUD.encode(), partitions)
    names = (f"near-{number}" for number in range(1_000))
    return next(name for name in names if partition_of_org(name.encode(), partitions) == wanted)


def configure(admin_url: str, receiver: WebhookReceiver, orgs: Iterator[str]) -> None:
    """Both are told at the same receiver."""
    with httpx.Client(base_url=admin_url, timeout=30, trust_env=False) as admin:
        for org in orgs:
            body = {"webhooks": {"url": f"{receiver.url}/{org}"}}
            admin.put(f"/orgs/{org}", json=body).raise_for_status()


async def append(brokers: str, org: str, count: int) -> None:
    """So many ends of responses, as the fold makes them."""
    producer, at_ms = Producer(brokers, "burst"), time.time_ns() // 1_000_000
    await producer.start((WEBHOOKS,))
    ids = (uuid7(at_ms, number.to_bytes(10)) for number in range(count))
    messages = (new_message(org, "response.completed", each, at_ms, {"id": each}) for each in ids)
    await producer.deliver([*map(webhook_record, messages)], time.monotonic() + 60)
    await producer.stop()


async def run(count: int) -> int:
    """The exit code."""
    with tempfile.TemporaryDirectory() as name, ExitStack() as running:
        folder = Path(name)
        backend = running.enter_context(running_backend("fake-a", folder / "calls.jsonl"))
        receiver = running.enter_context(webhook_receiver())
        allowed = {"TALLYGATE_WEBHOOK_NETWORKS": "127.0.0.1"}
        stack = running.enter_context(running_stack(folder / "state", [backend], {}, allowed))
        near = neighbour(4)
        configure(stack.admin_url, receiver, iter((LOUD, near)))
        await asyncio.sleep(5)
        await append(stack.kafka, LOUD, count)
        began_s = time.monotonic()
        await append(stack.kafka, near, 1)
        near_s = await _until(receiver, near, 1, began_s)
        loud_s = await _until(receiver, LOUD, count, began_s)
    print(f"the neighbour's one after {near_s:.1f} s, the {count} after {loud_s:.1f} s")
    return 0 if near_s <= NEAR_WITHIN_S and loud_s <= ALL_WITHIN_S else 1


async def _until(receiver: WebhookReceiver, org: str, count: int, began_s: float) -> float:
    """Seconds until so many messages arrived, or more than they may take."""
    while (waited_s := time.monotonic() - began_s) <= ALL_WITHIN_S:
        if len({each.message_id for each in receiver.taken(f"/{org}")}) >= count:
            break
        await asyncio.sleep(0.2)
    return waited_s


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=10_000, help="of the loud one (10000)")
    sys.exit(asyncio.run(run(parser.parse_args().messages)))
