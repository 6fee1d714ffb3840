"""Two backends behind one model, both of this test alone: one dies under load and comes back, weights
change, one is drained. Figures are printed; no client may see an error in any of it."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from tests.support.fakes.running_backend import RunningBackend, running_backend
from tests.support.harness.gateway_client import GatewayClient
from tests.support.harness.grants import Grant, MakeKey
from tests.support.harness.steady_load import SteadyLoad, until

pytestmark = pytest.mark.timeout(110, func_only=True)
MODEL = "routed-1"
LATENCY_MS = 20
EXCLUDED_WITHIN_S = 10.0
BACK_WITHIN_S = 30.0
APPLIED_WITHIN_S = 30.0

Pair = dict[str, RunningBackend]


@pytest.fixture(scope="module")
def grant(make_key: MakeKey) -> Grant:
    return make_key("routing-org")


@contextmanager
def _backend(name: str, folder: Path, port: int = 0) -> Iterator[RunningBackend]:
    log = folder / f"{name}.jsonl"
    with running_backend(name, log, port=port, latency_ms=LATENCY_MS) as backend:
        yield backend


@pytest.fixture
def pair(
    admin: httpx.Client, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Pair]:
    """Two backends with names of their own, equally weighted on the model."""
    folder = tmp_path_factory.mktemp("routed")
    stem = request.node.name.rpartition("_")[2]
    with _backend(f"{stem}-a", folder) as first, _backend(f"{stem}-b", folder) as second:
        for backend in (first, second):
            body = {"url": backend.url}
            admin.put(f"/backends/{backend.name}", json=body).raise_for_status()
        _weigh(admin, {first.name: 1, second.name: 1})
        yield {first.name: first, second.name: second}
        admin.delete(f"/models/{MODEL}").raise_for_status()
    for name in (first.name, second.name):
        admin.delete(f"/backends/{name}").raise_for_status()


def _weigh(admin: httpx.Client, weights: dict[str, int]) -> None:
    targets = [{"backend": name, "weight": weight} for name, weight in weights.items()]
    price = {"input_usd_per_mtok": "0.50", "output_usd_per_mtok": "1.50"}
    admin.put(f"/models/{MODEL}", json={"backends": targets, **price}).raise_for_status()


def _switch(admin: httpx.Client, name: str, way: str) -> None:
    admin.post(f"/backends/{name}/{way}").raise_for_status()


def _seen(admin: httpx.Client, name: str) -> list[dict[str, Any]]:
    """How the dispatchers see the backend."""
    listed = admin.get("/backends").raise_for_status().json()["items"]
    (entry,) = [item for item in listed if item["id"] == name]
    seen: list[dict[str, Any]] = entry["health"]
    return seen


def _states(admin: httpx.Client, name: str) -> set[str]:
    return {report["state"] for report in _seen(admin, name)}


async def _until_healthy(admin: httpx.Client, name: str, deadline_s: float) -> float:
    """Seconds until all dispatchers call the backend healthy; a failure says what they call it."""
    seen: list[dict[str, Any]] = []

    def is_healthy() -> bool:
        seen[:] = _seen(admin, name)
        return {report["state"] for report in seen} == {"healthy"}

    try:
        return await until(is_healthy, deadline_s)
    except AssertionError as late:
        raise AssertionError(f"{late}: {seen}") from None


async def test_a_killed_backend_costs_no_client_an_error_and_comes_back(
    client: GatewayClient, admin: httpx.Client, grant: Grant, pair: Pair
) -> None:
    """Failover hides its death, the breaker ends the calls to it, a trial brings it back."""
    victim, other = pair.values()
    await _until_healthy(admin, victim.name, APPLIED_WITHIN_S)
    async with SteadyLoad(client, [grant.key], MODEL) as load:
        await asyncio.sleep(3)
        os.kill(victim.pid, signal.SIGKILL)
        excluded_s = await until(
            lambda: "healthy" not in _states(admin, victim.name), EXCLUDED_WITHIN_S
        )
        await asyncio.sleep(8)
        before = len(victim.calls())
        port = urlsplit(victim.url).port or 0
        with _backend(victim.name, victim.log.parent, port) as again:
            back_s = await until(lambda: len(again.calls()) > before + 5, BACK_WITHIN_S)
            healthy_s = back_s + await _until_healthy(admin, victim.name, BACK_WITHIN_S)
            await asyncio.sleep(1)
    statuses = load.statuses()
    print(
        f"\nrequests {statuses.total()}, errors {statuses.total() - statuses[200]}; excluded after"
        f" {excluded_s:.1f} s; called again {back_s:.1f} s after its return,"
        f" all healthy after {healthy_s:.1f} s; calls {before} + {len(other.calls())}"
    )

    assert set(statuses) == {200}


async def test_changed_weights_hold_for_the_next_requests(
    client: GatewayClient, admin: httpx.Client, grant: Grant, pair: Pair
) -> None:
    """A weight of 0 leaves a backend as a fallback only."""
    first, second = pair.values()
    async with SteadyLoad(client, [grant.key], MODEL) as load:
        await until(lambda: bool(first.calls() and second.calls()), APPLIED_WITHIN_S)
        await asyncio.to_thread(_weigh, admin, {first.name: 0, second.name: 1})
        applied_s = await until(_is_left_alone(first), APPLIED_WITHIN_S)
    print(f"\nweights held after {applied_s:.1f} s")

    assert set(load.statuses()) == {200}


async def test_a_drained_backend_gets_no_new_calls_until_it_is_restored(
    client: GatewayClient, admin: httpx.Client, grant: Grant, pair: Pair
) -> None:
    """Calls under way end as they would."""
    first, second = pair.values()
    async with SteadyLoad(client, [grant.key], MODEL) as load:
        await until(lambda: bool(first.calls() and second.calls()), APPLIED_WITHIN_S)
        await asyncio.to_thread(_switch, admin, first.name, "drain")
        drained_s = await until(_is_left_alone(first), APPLIED_WITHIN_S)
        calls = len(first.calls())
        await asyncio.to_thread(_switch, admin, first.name, "restore")
        restored_s = await until(lambda: len(first.calls()) > calls, APPLIED_WITHIN_S)
    print(f"\ndrained after {drained_s:.1f} s, restored after {restored_s:.1f} s")

    assert set(load.statuses()) == {200}


def _is_left_alone(backend: RunningBackend) -> Callable[[], bool]:
    """True once the backend has had no new call for a second, in which fifty requests came."""

    def is_left_alone() -> bool:
        calls = len(backend.calls())
        time.sleep(1)
        return len(backend.calls()) == calls

    return is_left_alone
