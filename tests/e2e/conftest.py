"""One embedded stack for all end-to-end tests, with two fake backends whose logs are the oracle."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from typing import Any

import aiohttp
import httpx
import pytest
import pytest_asyncio

from tests.support.fakes.anthropic_backend import KEY
from tests.support.fakes.running_backend import RunningBackend, running_backend
from tests.support.harness.foreign_store import open_foreign
from tests.support.harness.gateway_client import CONNECTIONS, MODEL, GatewayClient
from tests.support.harness.grants import UNLIMITED, Grant, MakeKey
from tests.support.harness.kafka_log import KafkaLog
from tests.support.harness.ledger_view import LedgerView
from tests.support.harness.oracle import Oracle
from tests.support.harness.running_stack import RunningStack, running_stack
from tests.support.harness.store_refusals import refusals
from tests.support.harness.watched_answers import Watch, watching
from tests.support.otlp_receiver import Receiver, otlp_receiver

DEFAULT_MAX_OUTPUT_TOKENS = 1_024
CLIENT_DEADLINE_S = 60.0
_WATCH = pytest.StashKey[Watch]()
REPLICAS = {"limiter_worker": 2, "dispatcher": 2}
"""Two of each, so that limits hold across processes in every test."""


@pytest.fixture(scope="session")
def answers(request: pytest.FixtureRequest) -> Iterator[Watch]:
    """Every answer of a gateway to a test's client, judged by the OpenAPI document."""
    with watching() as seen:
        request.config.stash[_WATCH] = seen
        yield seen


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Say how many answers were judged."""
    seen = config.stash.get(_WATCH, None)
    if seen is not None:
        per_answer_us = 1e6 * seen.took_s / max(1, seen.answers)
        told = f"{seen.answers} answers judged by the OpenAPI document, {per_answer_us:.0f} µs each"
        terminalreporter.write_line(told)


@pytest.fixture(autouse=True)
def answers_as_documented(answers: Watch) -> Iterator[None]:
    """A test fails whose gateway answers what the document does not tell, whatever its client made of it."""
    yield
    problems, answers.problems = answers.problems, []
    assert problems == []


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
def traces() -> Iterator[Receiver]:
    """Where the stack's spans go: of requests whose clients ask for a trace, and of no others."""
    with otlp_receiver() as receiver:
        yield receiver


@pytest.fixture(scope="session")
def stack(
    tmp_path_factory: pytest.TempPathFactory, backends: list[RunningBackend], traces: Receiver
) -> Iterator[RunningStack]:
    """`tallygate up` with the fake backends and two processes of the roles that limits depend on."""
    state_dir = tmp_path_factory.mktemp("stack") / "state"
    traced = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": traces.url,
        "OTEL_TRACES_SAMPLER": "parentbased_always_off",
        "BACKEND_CLAUDE_API_KEY": KEY,
    }
    with running_stack(state_dir, backends, REPLICAS, traced) as running:
        yield running
        # With TALLYGATE_TEST_STORE_USERS each process has the rights that are written down for it.
        assert refusals(running) == []


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
    with open_foreign(stack.ledger_url) as store:
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
