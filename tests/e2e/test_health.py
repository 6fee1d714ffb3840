"""What health says while parts are stopped, full or low, and how fast it says it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis

from tests.support.harness.foreign_store import open_foreign
from tests.support.harness.gateway_client import GatewayClient
from tests.support.harness.grants import MakeKey
from tests.support.harness.running_stack import RunningStack, lasting
from tests.support.harness.standing_still import standing_still

pytestmark = pytest.mark.timeout(120, func_only=True)

SAID_WITHIN_S = 5.0
"""A refresh every two seconds, whose questions have one."""
MISSING_WITHIN_S = 16.0
ANSWER_WITHIN_S = 0.05


@pytest.fixture
def ready(stack: RunningStack) -> Iterator[Callable[[], Any]]:
    """Asks for readiness: status, document and the seconds it took."""
    with httpx.Client(base_url=stack.api_url, timeout=5, trust_env=False) as client:

        def ask() -> Any:
            started_s = time.monotonic()
            answer = client.get("/status/readyz")
            took_s = time.monotonic() - started_s
            return answer.json() | {"http_status": answer.status_code, "took_s": took_s}

        yield ask


@pytest.fixture
def store(stack: RunningStack) -> Iterator[redis.Redis]:
    """The ledger store, by an independent client."""
    with open_foreign(stack.ledger_url, decode_responses=True) as client:
        yield client


def _until(ask: Callable[[], Any], is_so: Callable[[Any], bool], within_s: float) -> Any:
    give_up_s = time.monotonic() + within_s
    while not is_so(found := ask()) and time.monotonic() < give_up_s:
        time.sleep(0.1)
    assert is_so(found), found
    return found


def _pid(stack: RunningStack, *words: str) -> int:
    """The process of the stack whose command line and settings have all the words."""
    for pid in lasting(stack.process.pid):
        said = b"\0".join(
            Path(f"/proc/{pid}/{name}").read_bytes() for name in ("cmdline", "environ")
        )
        if all(word.encode() in said for word in words):
            return pid
    raise AssertionError(f"no process of {words}")


def test_health_names_workers_backends_and_models(
    ready: Callable[[], Any], admin: httpx.Client
) -> None:
    """With the age of each worker's last report; a model whose only backend is drained has none."""
    backend = {"url": "http://127.0.0.1:9/v1", "state": "drained"}
    admin.put("/backends/health-drained", json=backend).raise_for_status()
    model = {"backends": [{"backend": "health-drained"}]}
    admin.put("/models/health-lonely", json=model).raise_for_status()

    found = _until(
        ready, lambda told: "health-lonely" in told["models_without_backend"], SAID_WITHIN_S
    )

    assert (found["http_status"], found["status"]) == (200, "degraded")
    assert found["workers"]["dispatcher"].keys() == {"dispatcher-0", "dispatcher-1"}
    assert found["workers"]["limiter_worker"].keys() == {"limiter_worker-0", "limiter_worker-1"}
    ages_s = [w["age_s"] for role in found["workers"].values() for w in role.values()]
    assert len(ages_s) == 5
    assert max(ages_s) < 10
    assert found["backends"]["fake-a"] == found["backends"]["fake-b"] == "healthy"
    assert found["backends"]["health-drained"] == "drained"
    for path in ("/models/health-lonely", "/backends/health-drained"):
        admin.delete(path).raise_for_status()


def test_a_ledger_that_hangs_is_told_and_health_answers_as_fast(
    stack: RunningStack, ready: Callable[[], Any]
) -> None:
    """Within five seconds, and in as many milliseconds as before."""
    port = stack.ledger_url.rsplit(":", 1)[1].split("/")[0]
    took_s: list[float] = []

    def ask() -> Any:
        told = ready()
        took_s.append(told["took_s"])
        return told

    with standing_still(_pid(stack, "valkey-server", port)):
        _until(ask, lambda told: told["components"]["ledger"] != "ok", SAID_WITHIN_S)
        for _ in range(20):
            ask()
            time.sleep(0.05)
    _until(ask, lambda told: told["components"]["ledger"] == "ok", SAID_WITHIN_S)

    assert sorted(took_s)[len(took_s) // 2] < ANSWER_WITHIN_S


def test_a_worker_that_hangs_is_missing(stack: RunningStack, ready: Callable[[], Any]) -> None:
    """Its twin serves, so the gateway stays ready."""
    with standing_still(_pid(stack, "TALLYGATE_INSTANCE_ID=dispatcher-1")):
        told = _until(
            ready,
            lambda told: told["workers"]["dispatcher"]["dispatcher-1"]["state"] == "missing",
            MISSING_WITHIN_S,
        )

    assert (told["http_status"], told["status"]) == (200, "degraded")
    _until(
        ready,
        lambda told: told["workers"]["dispatcher"]["dispatcher-1"]["state"] == "ok",
        MISSING_WITHIN_S,
    )


async def test_a_ledger_that_is_nearly_full_closes_the_door_until_it_is_not(
    client: GatewayClient, make_key: MakeKey, store: redis.Redis, ready: Callable[[], Any]
) -> None:
    """503 with a hint; it recovers by itself."""
    grant = make_key("health-full")
    most = int(store.config_get("maxmemory")["maxmemory"] or 0)
    used = int(store.info("memory")["used_memory"])
    store.config_set("maxmemory", used + used // 10)
    try:
        told = _until(ready, lambda told: "ledger_memory" in told["bounds"], SAID_WITHIN_S)
        refused = await client.chat(grant.key, "hello", max_tokens=1)
    finally:
        store.config_set("maxmemory", most)
    _until(ready, lambda told: "ledger_memory" not in told["bounds"], SAID_WITHIN_S)
    passed = await client.chat(grant.key, "hello", max_tokens=1)

    assert told["http_status"] == 503
    assert (refused.status, passed.status) == (503, 200)
    assert refused.json["error"]["code"] == "service_unavailable"
    assert int(refused.headers["retry-after"]) >= 1


async def test_a_low_disk_of_a_broker_closes_the_door_until_there_is_room(
    client: GatewayClient, make_key: MakeKey, store: redis.Redis, ready: Callable[[], Any]
) -> None:
    """As whoever watches that disk tells it."""
    grant = make_key("health-disk")

    def tell(free: int) -> None:
        store.hset("{cfg}|disk", "health-broker", f"{free} {10**12} {time.time_ns() // 10**6}")

    tell(10**6)
    _until(ready, lambda told: "broker_disk" in told["bounds"], SAID_WITHIN_S)
    refused = await client.chat(grant.key, "hello", max_tokens=1)
    tell(10**11)
    _until(ready, lambda told: "broker_disk" not in told["bounds"], SAID_WITHIN_S)
    passed = await client.chat(grant.key, "hello", max_tokens=1)
    store.hdel("{cfg}|disk", "health-broker")

    assert (refused.status, passed.status) == (503, 200)
