"""An external budget service has its say: through the whole stack, with its own ledger as the oracle of money."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import pytest
import pytest_asyncio

from schemas.topics import AUDIT
from tests.support.fakes.running_backend import RunningBackend, running_backend
from tests.support.fakes.running_budget_service import (
    RunningBudgetService,
    running_budget_service,
)
from tests.support.harness.gateway_client import MODEL, GatewayClient, Reply, steer
from tests.support.harness.grants import UNLIMITED, Grant
from tests.support.harness.kafka_log import KafkaLog, LogRecord
from tests.support.harness.oracle import Oracle, cost_nano_usd
from tests.support.harness.running_stack import RunningStack, descendants, running_stack

pytestmark = pytest.mark.timeout(180, func_only=True)
NANO = Decimal("1e-9")
LIMIT_FIELDS = {"error", "code", "limit_type", "current_usage", "limit", "retry_after"}
"""Of the native route."""
MakeAsked = Callable[..., Grant]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningBudgetService]:
    with running_budget_service(tmp_path_factory.mktemp("service")) as running:
        yield running


@pytest.fixture(scope="module")
def backends(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[RunningBackend]]:
    folder = tmp_path_factory.mktemp("backends")
    with ExitStack() as running:
        yield [running.enter_context(running_backend("fake-a", folder / "fake-a.jsonl"))]


@pytest.fixture(scope="module")
def stack(
    tmp_path_factory: pytest.TempPathFactory,
    backends: list[RunningBackend],
    service: RunningBudgetService,
) -> Iterator[RunningStack]:
    """Two limiters and two accounting processes that know the service."""
    state_dir = tmp_path_factory.mktemp("asked") / "state"
    replicas = {"limiter_worker": 2, "accounting": 2}
    environment = {"TALLYGATE_BUDGET_SERVICE_ENDPOINT": service.url}
    with running_stack(state_dir, backends, replicas, environment) as running:
        yield running


@pytest.fixture(scope="module")
def make_asked(stack: RunningStack, backends: list[RunningBackend]) -> Iterator[MakeAsked]:
    """Makes an organization that the service is asked for, and a key of it."""
    with httpx.Client(base_url=stack.admin_url, timeout=30, trust_env=False) as admin:
        model = {
            "backends": [{"backend": backend.name} for backend in backends],
            "input_usd_per_mtok": "0.50",
            "output_usd_per_mtok": "1.50",
            "default_max_output_tokens": 1_024,
        }
        admin.put(f"/models/{MODEL}", json=model).raise_for_status()

        def make(org: str, while_down: str = "deny", **limits: Any) -> Grant:
            asked = {"budget_service": {"while_down": while_down}}
            body = {"limits": {**UNLIMITED, **limits}, **asked}
            admin.put(f"/orgs/{org}", json=body).raise_for_status()
            made = admin.post("/keys", json={"org": org, "name": "test", "limits": UNLIMITED})
            told = made.raise_for_status().json()
            return Grant(told["org"], told["key"], told["key_id"])

        yield make


@pytest_asyncio.fixture
async def crowd(stack: RunningStack) -> AsyncIterator[GatewayClient]:
    connector, timeout = aiohttp.TCPConnector(limit=0), aiohttp.ClientTimeout(total=60)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        yield GatewayClient(session, stack.api_url)


@pytest.fixture
def oracle(backends: list[RunningBackend]) -> Oracle:
    return Oracle(backends)


async def _until(condition: Callable[[], bool], within_s: float) -> None:
    async with asyncio.timeout(within_s):
        while not condition():  # noqa: ASYNC110  # another process
            await asyncio.sleep(0.05)


def _of(records: list[LogRecord], org: str) -> list[dict[str, Any]]:
    """The refusals of an organization that auditors were told of."""
    told = [record.value for record in records if record.value["action"] == "refused"]
    return [each for each in told if each["org"] == org]


def _command_line(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


async def test_spend_is_told_once_and_the_remainder_is_heeded(
    crowd: GatewayClient, make_asked: MakeAsked, service: RunningBudgetService, oracle: Oracle
) -> None:
    """Requests pass until the budget that only the service knows is spent; its ledger has what the backends' logs have."""
    service.budget("spender", "0.002")
    grant = make_asked("spender")
    replies: list[Reply] = []
    while len(replies) < 60 and (not replies or replies[-1].status == 200):
        words = steer(output_tokens=100)
        replies.append(await crowd.infer(grant.key, words, parameters={"max_tokens": 100}))
    *passed, refused = replies
    spent = sum(cost_nano_usd(call) for call in oracle.calls_of(r.request_id for r in passed))

    assert len(passed) >= 5
    assert refused.status == 402, refused.body
    assert refused.json.keys() == LIMIT_FIELDS
    assert (refused.json["code"], refused.json["limit_type"]) == ("BUDGET_EXCEEDED", "budget")
    assert refused.json["limit"] == Decimal("0.002")
    assert refused.json["current_usage"] == spent * NANO
    await _until(lambda: service.spent_usd("spender") == spent * NANO, 10)
    assert {line["id"] for line in service.lines("spender")} == {r.request_id for r in passed}


async def test_racers_never_exceed_the_remainder_on_two_limiters(
    crowd: GatewayClient,
    make_asked: MakeAsked,
    service: RunningBudgetService,
    oracle: Oracle,
    stack: RunningStack,
) -> None:
    """200 at once against a remainder of 10 USD, of which each could take 0.16, while the limiter that asked is killed."""
    service.budget("racers", "10")
    grant = make_asked("racers", concurrency=10_000)
    tokens = 104_000
    words = steer(output_tokens=tokens - 4_000, delay_ms=800)

    async def kill_a_limiter() -> None:
        await asyncio.sleep(0.5)
        for pid in descendants(stack.process.pid):
            if b"limiter_worker" in _command_line(pid):
                os.kill(pid, signal.SIGKILL)
                return

    async def race() -> Reply:
        for _ in range(12):
            reply = await crowd.chat(grant.key, words, max_tokens=tokens)
            if reply.status in (200, 402):
                return reply
            await asyncio.sleep(0.5)
        return reply

    *replies, _ = await asyncio.gather(*(race() for _ in range(200)), kill_a_limiter())
    passed = [reply for reply in replies if reply and reply.status == 200]
    calls = oracle.calls_of(reply.request_id for reply in passed)
    spent = sum(map(cost_nano_usd, calls)) * NANO

    assert Counter(reply.status for reply in replies if reply) == {
        200: len(passed),
        402: 200 - len(passed),
    }
    assert Decimal("9.5") < spent <= 10
    await _until(lambda: service.spent_usd("racers") == spent, 20)


async def test_a_denial_is_told_as_the_service_said_it_and_audited(
    crowd: GatewayClient,
    make_asked: MakeAsked,
    service: RunningBudgetService,
    oracle: Oracle,
    stack: RunningStack,
) -> None:
    """Kind, figures and when to come back; the audit event names the verdict and whence it is."""
    service.denies(
        "denied",
        decision="deny",
        limit_type="quota",
        current_usage="1000",
        limit="1000",
        retry_after=30,
        valid_for_ms=1_000,
    )
    grant = make_asked("denied")
    first = await crowd.infer(grant.key, "hello", parameters={"max_tokens": 5})

    assert first.status == 402, first.body
    told = {name: first.json[name] for name in LIMIT_FIELDS - {"error"}}
    assert told == {
        "code": "QUOTA_EXCEEDED",
        "limit_type": "quota",
        "current_usage": 1_000,
        "limit": 1_000,
        "retry_after": 30,
    }
    assert first.headers["x-should-retry"] == "false"
    assert oracle.calls_of([first.request_id]) == ()
    log = KafkaLog(stack.kafka)
    records = await asyncio.to_thread(log.read, AUDIT, lambda found: bool(_of(found, "denied")), 15)
    audits = _of(records, "denied")
    assert [json.loads(each["detail"])["limit_id"] for each in audits] == [
        "budget_service:deny:asked"
    ]


async def test_a_killed_service_is_decided_by_policy_and_hears_of_all_spend_afterwards(
    crowd: GatewayClient, make_asked: MakeAsked, service: RunningBudgetService, oracle: Oracle
) -> None:
    """Who may go on goes on, who may not hears 503; each line counts once when it is back."""
    grants = {policy: make_asked(f"down-{policy}", policy) for policy in ("allow", "deny")}
    service.kill()
    try:
        replies: dict[str, list[Reply]] = {
            policy: [await crowd.chat(grant.key, "hi", max_tokens=5) for _ in range(5)]
            for policy, grant in grants.items()
        }
    finally:
        service.start()

    assert [reply.status for reply in replies["allow"]] == [200] * 5
    assert [reply.status for reply in replies["deny"]] == [503] * 5
    assert all(reply.headers["retry-after"] for reply in replies["deny"])
    calls = oracle.calls_of(reply.request_id for reply in replies["allow"])
    spent = sum(map(cost_nano_usd, calls)) * NANO
    await _until(lambda: service.spent_usd("down-allow") == spent, 15)
    assert len(service.lines("down-allow")) == 5
    statuses: list[int] = []
    while len(statuses) < 50 and 200 not in statuses:
        await asyncio.sleep(0.2)
        statuses.append((await crowd.chat(grants["deny"].key, "hi", max_tokens=5)).status)
    assert set(statuses) <= {503, 200}
    assert statuses[-1] == 200


async def test_the_books_hold_with_such_balances(
    crowd: GatewayClient, make_asked: MakeAsked, stack: RunningStack
) -> None:
    """They are verified and rebuilt like any other."""
    grant = make_asked("booked")
    for _ in range(3):
        assert (await crowd.chat(grant.key, "hi", max_tokens=5)).status == 200
    async with httpx.AsyncClient(base_url=stack.admin_url, timeout=60, trust_env=False) as admin:
        verdict = await admin.get("/ledger/verify", params={"deadline_s": 20})

    assert verdict.json()["difference"] == 0, verdict.text
