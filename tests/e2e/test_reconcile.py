"""`ledger verify` and `reconcile` name what was seeded, of each kind; what is repairable is repaired.

A stack of its own, because its sums do not agree afterwards; its times are divided by 4.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import aiohttp
import httpx
import msgspec
import pytest
from confluent_kafka import Producer

from accounting.booking import entry_of
from schemas.codec import encode
from schemas.events import Booking, RecordRef, RequestFinished
from schemas.ids import uuid7
from schemas.ledger.keys import FINISHED, of_shard
from tests.support.events import attempt, finished
from tests.support.fakes.running_backend import RunningBackend
from tests.support.harness.foreign_store import open_foreign
from tests.support.harness.gateway_client import MODEL, GatewayClient
from tests.support.harness.kafka_log import KafkaLog
from tests.support.harness.ledger_view import STACK_SHARDS, key_of
from tests.support.harness.running_stack import TALLYGATE, RunningStack, running_stack

pytestmark = pytest.mark.timeout(150, func_only=True)
BALANCE = "b:org/tokens:seeded"
TOKENS = 46
REPAIRED_WITHIN_S = 40.0


@pytest.fixture(scope="module")
def own_stack(
    tmp_path_factory: pytest.TempPathFactory, backends: list[RunningBackend]
) -> Iterator[RunningStack]:
    """One of each process, with short times."""
    state_dir = tmp_path_factory.mktemp("reconcile") / "state"
    short = {"TALLYGATE_TEST": "1", "TALLYGATE_TEST_TIME_SCALE": "4"}
    with running_stack(state_dir, backends, environment=short) as running:
        yield running


class Seeds:
    """Writes what does not fit into the log and into the store."""

    def __init__(self, stack: RunningStack, org: str) -> None:
        self.org = org
        self.store = open_foreign(stack.ledger_url)
        self._producer = Producer(
            {"bootstrap.servers": stack.kafka, "partitioner": "murmur2_random"}
        )
        self._made = 0

    def outcome(self) -> RequestFinished:
        """An outcome of a request that was made just now, and used a few tokens."""
        self._made += 1
        now_ms = time.time_ns() // 1_000_000
        return finished(
            [attempt(started_at_ms=now_ms, finished_at_ms=now_ms)],
            [Booking(key=BALANCE, unit="tokens", amount=TOKENS)],
            request_id=uuid7(now_ms, self._made.to_bytes(10)),
            org=self.org,
            deadline_ms=now_ms + 60_000,
        )

    def produce(self, topic: str, *events: Any) -> None:
        for event in events:
            self._producer.produce(topic, encode(event), self.org.encode())
        assert self._producer.flush(10) == 0

    def remember(self, request: RequestFinished, **fields: Any) -> None:
        """What the ledger knows of the request."""
        known: dict[Any, Any] = {"deadline_ms": request.deadline_ms, **fields}
        self.store.hset(key_of(self.org, f"a:{request.request_id}"), mapping=known)

    def settle(self, field: str, amount: int) -> None:
        self.store.hincrby(key_of(self.org, BALANCE), field, amount)

    @contextmanager
    def just_finished(self, request: RequestFinished) -> Iterator[None]:
        """Meanwhile it ended 10 s ago: before whoever asks began to, and less than the 15 s to its repair."""
        key = of_shard(STACK_SHARDS.of(self.org), FINISHED)
        member = f"{self.org}|{request.request_id}"
        is_named = threading.Event()

        def say() -> None:
            while not is_named.wait(0.2):
                self.store.zadd(key, {member: time.time_ns() // 1_000_000 - 10_000})

        saying = threading.Thread(target=say)
        saying.start()
        try:
            yield
        finally:
            is_named.set()
            saying.join(10)


def _reconcile(stack: RunningStack) -> dict[str, Any]:
    command = [str(TALLYGATE), "reconcile", "--json", "--url", stack.admin_url]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    answer: dict[str, Any] = json.loads(ran.stdout)
    assert ran.returncode == int(answer["difference"] > 0), ran.stderr
    return answer


def _verify(stack: RunningStack, deadline_s: float) -> dict[str, Any]:
    params = {"deadline_s": deadline_s}
    url = f"{stack.admin_url}/ledger/verify"
    answer = httpx.get(url, params=params, timeout=60, trust_env=False)
    verdict: dict[str, Any] = answer.raise_for_status().json()
    return verdict


def _named(stack: RunningStack, wanted: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """Kind and request, or balance, of all that was found until everything wanted was.

    What is repaired meanwhile was named before that.
    """
    found: set[tuple[str, str]] = set()

    def ask() -> set[tuple[str, str]]:
        findings = _reconcile(stack)["findings"]
        found.update((f["kind"], f["request_id"] or f["what"]) for f in findings)
        return found

    _until(ask, lambda seen: seen >= wanted)
    return found


def _differing(verdict: dict[str, Any]) -> dict[str, Any]:
    """The one shard that differs."""
    (shard,) = (shard for shard in verdict["shards"] if shard["state"] == "differs")
    return dict(shard)


def _explained(shard: dict[str, Any]) -> set[str]:
    """The requests that are named."""
    explanations = (difference["explanation"] for difference in shard["differences"])
    return {request_id for explanation in explanations for request_id in explanation["requests"]}


def _books(stack: RunningStack) -> str:
    """What readiness of the control plane says of the books, by itself."""
    url = f"{stack.admin_url.removesuffix('/admin/v1')}/v1/status/readyz"
    answer = httpx.get(url, timeout=10, trust_env=False).raise_for_status().json()
    return str(answer["components"]["books"])


def _until(ask: Callable[[], Any], is_enough: Callable[[Any], bool]) -> Any:
    give_up_s = time.monotonic() + REPAIRED_WITHIN_S
    while not is_enough(answer := ask()) and time.monotonic() < give_up_s:
        time.sleep(0.5)
    return answer


def _give_model(stack: RunningStack, backends: list[RunningBackend]) -> None:
    model = {
        "backends": [{"backend": backend.name, "weight": 1} for backend in backends],
        "input_usd_per_mtok": "0.50",
        "output_usd_per_mtok": "1.50",
    }
    url = f"{stack.admin_url}/models/{MODEL}"
    httpx.put(url, json=model, timeout=30, trust_env=False).raise_for_status()


async def _served(stack: RunningStack) -> None:
    async with aiohttp.ClientSession() as session:
        client = GatewayClient(session, stack.api_url)
        replies = [await client.chat(stack.first_key, "hello", max_tokens=5) for _ in range(3)]
    assert [reply.status for reply in replies] == [200] * 3


def test_each_kind_of_difference_is_named_and_what_is_only_in_the_ledger_is_produced(
    own_stack: RunningStack, backends: list[RunningBackend]
) -> None:
    """Nothing is named before, and everything that was seeded after."""
    _give_model(own_stack, backends)
    asyncio.run(_served(own_stack))
    assert _until(lambda: _verify(own_stack, 5), lambda v: v["difference"] == 0)["difference"] == 0
    assert _reconcile(own_stack)["findings"] == []

    seeds = Seeds(own_stack, "seeded")
    unbooked, unsettled, lineless, orphaned, doubled = (seeds.outcome() for _ in range(5))
    seeds.remember(unbooked, state="FINISHED", fence=unbooked.fence, outcome=encode(unbooked))
    seeds.settle("settled", TOKENS)
    seeds.remember(unsettled, state="RUNNING", holds="{}")
    seeds.remember(lineless, state="BOOKED", booked="0:999999")
    seeds.produce("inference.outcomes.v1", unsettled, lineless, doubled)
    place = RecordRef(topic="inference.outcomes.v1", partition=0, offset=10**6)
    line = entry_of(orphaned, place, 0).lines[0]
    differing = msgspec.structs.replace(
        entry_of(doubled, place, 0).lines[0], output_tokens=1, finished_at_ms=line.finished_at_ms
    )
    log = KafkaLog(own_stack.kafka)
    log.read(
        "usage.records.v1",
        lambda records: any(r.value["request_id"] == doubled.request_id for r in records),
        20,
    )
    seeds.produce("usage.records.v1", line, line, differing)
    seeds.settle("late", 7)
    wanted = {
        ("settled_not_booked", unbooked.request_id),
        ("booked_not_settled", unsettled.request_id),
        ("outcome_without_usage_line", lineless.request_id),
        ("usage_line_without_outcome", orphaned.request_id),
        ("usage_line_doubled", orphaned.request_id),
        ("usage_line_differs", doubled.request_id),
        ("balance_differs", f"{BALANCE} late"),
        # Booked by the log, and by no call.
        ("balance_differs", f"{BALANCE} settled"),
    }
    with seeds.just_finished(unbooked):
        verdict = _until(lambda: _verify(own_stack, 0), lambda v: v["settled_not_booked"])
        assert verdict["checkpoint"]["made_anew"] is None
        assert [e["req"] for e in verdict["settled_not_booked"]] == [unbooked.request_id]
        assert _named(own_stack, wanted) == wanted

    reasons = {unsettled.request_id, lineless.request_id, doubled.request_id}
    shard = _until(lambda: _differing(_verify(own_stack, 1)), lambda s: reasons <= _explained(s))
    assert reasons <= _explained(shard)
    assert {(d["what"], d["field"]) for d in shard["differences"]} >= {(BALANCE, "late")}
    told = _until(lambda: _books(own_stack), lambda books: "differs" in books)
    assert told.startswith(f"degraded: shard {shard['shard']} differs by ")
    assert any(request_id in told for request_id in _explained(shard))

    repaired = _until(
        lambda: _reconcile(own_stack), lambda a: "settled_not_booked" not in a["kinds"]
    )
    assert "settled_not_booked" not in repaired["kinds"]
    outcomes = log.read("inference.outcomes.v1", lambda _: True, 10)
    assert sum(r.value["request_id"] == unbooked.request_id for r in outcomes) == 1
    settled = int(seeds.store.hget(key_of("seeded", BALANCE), "settled") or 0)
    total = int(seeds.store.hget(key_of("seeded", "t:org/tokens:seeded"), "settled") or 0)
    assert (settled, total) == (2 * TOKENS, 3 * TOKENS)
