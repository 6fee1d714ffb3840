"""One embedded stack for all end-to-end tests, with two fake backends whose logs are the oracle."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import aiohttp
import httpx
import pytest
import pytest_asyncio
import redis

from tests.e2e.gateway_client import MODEL, GatewayClient
from tests.e2e.kafka_log import KafkaLog
from tests.e2e.ledger_view import LedgerView
from tests.e2e.running_stack import RunningStack, running_stack
from tests.fakes.call_log import Call, read_calls
from tests.fakes.running_backend import RunningBackend, running_backend

INPUT_NANO_USD_PER_TOKEN = 500
OUTPUT_NANO_USD_PER_TOKEN = 1_500
DEFAULT_MAX_OUTPUT_TOKENS = 1_024
UNLIMITED = {"requests_per_s": 100_000, "burst": 100_000}
CONNECTIONS = 100
CLIENT_DEADLINE_S = 60.0
REPLICAS = {"limiter_worker": 2, "dispatcher": 2}
"""Two of each, so that limits hold across processes in every test."""


@dataclass(frozen=True)
class Grant:
    """A key that was just made, and who pays for it."""

    org: str
    key: str
    key_id: str


MakeKey = Callable[..., Grant]


class Oracle:
    """What really happened at the backends, from their own logs."""

    def __init__(self, backends: Iterable[RunningBackend]) -> None:
        self._logs = tuple(backend.log for backend in backends)

    def calls(self) -> tuple[Call, ...]:
        """Every call of the session."""
        return read_calls(*self._logs)

    def calls_of(self, request_ids: Iterable[str]) -> tuple[Call, ...]:
        """The calls made for these requests, known by the id they carried."""
        wanted = set(request_ids)
        return tuple(call for call in self.calls() if call.start.request_id in wanted)


def cost_nano_usd(call: Call) -> int:
    """What a call costs at the price of the test's model; exact, without rounding."""
    return (
        call.prompt_tokens * INPUT_NANO_USD_PER_TOKEN
        + call.completion_tokens * OUTPUT_NANO_USD_PER_TOKEN
    )


@pytest.fixture(scope="session")
def backends(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[RunningBackend]]:
    """Two fake backends."""
    folder = tmp_path_factory.mktemp("backends")
    with ExitStack() as running:
        yield [
            running.enter_context(running_backend(name, folder / f"{name}.jsonl"))
            for name in ("fake-a", "fake-b")
        ]


@pytest.fixture(scope="session")
def stack(
    tmp_path_factory: pytest.TempPathFactory, backends: list[RunningBackend]
) -> Iterator[RunningStack]:
    """`tallygate up` with the fake backends and two processes of the roles that limits depend on."""
    state_dir = tmp_path_factory.mktemp("stack") / "state"
    with running_stack(state_dir, backends, REPLICAS) as running:
        yield running


@pytest.fixture(scope="session")
def admin(stack: RunningStack, backends: list[RunningBackend]) -> Iterator[httpx.Client]:
    """The admin API, with a price on the model that tests use."""
    with httpx.Client(base_url=stack.admin_url, timeout=30, trust_env=False) as client:
        model = {
            "backends": [{"backend": backend.name, "weight": 1} for backend in backends],
            "input_usd_per_mtok": "0.50",
            "output_usd_per_mtok": "1.50",
            "default_max_output_tokens": DEFAULT_MAX_OUTPUT_TOKENS,
        }
        client.put(f"/models/{MODEL}", json=model).raise_for_status()
        yield client


@pytest.fixture(scope="session")
def make_key(admin: httpx.Client) -> MakeKey:
    """Makes an org with the limits given (none by default) and a key without limits in it."""

    def make(org: str, limits: dict[str, Any] | None = None) -> Grant:
        body = {"limits": {**UNLIMITED, **(limits or {})}}
        admin.put(f"/orgs/{org}", json=body).raise_for_status()
        answer = admin.post("/keys", json={"org": org, "name": "test", "limits": UNLIMITED})
        made = answer.raise_for_status().json()
        return Grant(made["org"], made["key"], made["key_id"])

    return make


@pytest.fixture(scope="session")
def oracle(backends: list[RunningBackend]) -> Oracle:
    """The backends' own logs."""
    return Oracle(backends)


@pytest.fixture(scope="session")
def ledger(stack: RunningStack) -> Iterator[LedgerView]:
    """The ledger's own numbers."""
    with redis.Redis.from_url(stack.ledger_url) as store:
        yield LedgerView(store)


@pytest.fixture(scope="session")
def kafka_log(stack: RunningStack) -> KafkaLog:
    """The stack's topics, read with foreign tools."""
    return KafkaLog(stack.kafka)


@pytest_asyncio.fixture
async def crowd(stack: RunningStack) -> AsyncIterator[GatewayClient]:
    """An HTTP client that opens as many connections as there are requests."""
    connector = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(total=CLIENT_DEADLINE_S)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        yield GatewayClient(session, stack.api_url)


@pytest_asyncio.fixture
async def client(stack: RunningStack) -> AsyncIterator[GatewayClient]:
    """An HTTP client of the public API with room for 100 requests at once."""
    connector = aiohttp.TCPConnector(limit=CONNECTIONS)
    timeout = aiohttp.ClientTimeout(total=CLIENT_DEADLINE_S)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        yield GatewayClient(session, stack.api_url)
