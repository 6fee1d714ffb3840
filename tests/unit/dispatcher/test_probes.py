"""Probes: what is wrong with one backend makes that one unhealthy, and nothing else."""

from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace
from typing import Any, cast

import pytest

from dispatcher.backends.probe_client import Probe, ProbeClient
from dispatcher.backends.probes import Prober
from dispatcher.backends.registry import Backends
from schemas.config_state import Snapshot
from schemas.entities import Backend
from schemas.runtime.config.feed import ConfigFeed
from tests.support.scripted_backend import answering, backend, probe_client


class _Seen:
    """Notes what the prober found."""

    def __init__(self) -> None:
        self.lives: dict[str, bool] = {}

    def probed(self, name: str, *, answered: bool) -> None:
        self.lives[name] = answered


def _prober(known: dict[str, Any], client: ProbeClient | SimpleNamespace) -> tuple[Prober, _Seen]:
    config = SimpleNamespace(snapshot=Snapshot(backends=known))
    seen = _Seen()
    prober = Prober(
        cast("ConfigFeed", config),
        cast("Backends", seen),
        cast("ProbeClient", client),
        lambda low, _high: low,
    )
    return prober, seen


def _as_configured(url: str, **more: Any) -> Any:
    """A backend as an older admin may have let it pass."""
    return SimpleNamespace(url=url, api_key_env=None, timeout_s=1.0, **more)


@pytest.mark.parametrize(
    "url",
    [
        "http://[::1/v1",
        "http://[::1]@",
        "http://h:99999/v1",
        "http://h:port/v1",
        f"http://{'a' * 70}/v1",
        "http://..",
        "http://h\x00x/v1",
        "ftp://h/v1",
        "",
    ],
)
async def test_a_backend_that_cannot_be_called_is_unhealthy_alone(url: str) -> None:
    """Whatever its URL is; its neighbour is probed in the same round."""
    async with backend(answering(200, b"{}")) as good, probe_client() as client:
        prober, seen = _prober({"bad": _as_configured(url), "good": Backend(url=good)}, client)
        await prober.probe_all()

    assert seen.lives == {"bad": False, "good": True}


async def test_what_a_probe_raises_does_not_end_the_rounds() -> None:
    """A fault that nobody foresaw is one of that backend."""
    async with probe_client() as client:
        await client.stop()
        prober, seen = _prober({"b1": Backend(url="http://127.0.0.1:9")}, client)
        await prober.probe_all()

    assert seen.lives == {"b1": False}


async def test_a_fault_is_logged_once_until_it_changes(caplog: pytest.LogCaptureFixture) -> None:
    """Not every five seconds."""
    async with probe_client() as client:
        prober, _ = _prober({"bad": _as_configured("http://[::1")}, client)
        for _ in range(3):
            await prober.probe_all()

    assert len([r for r in caplog.records if "bad" in r.getMessage()]) == 1


async def test_a_thousand_backends_are_probed_a_few_at_a_time() -> None:
    """Bounded in number; a round of the living ends at once."""
    at_once = peak = 0

    async def probe(_: Backend) -> Probe:
        nonlocal at_once, peak
        at_once += 1
        peak = max(peak, at_once)
        await asyncio.sleep(0.01)
        at_once -= 1
        return Probe("status 200", is_alive=True)

    known = {f"b{number}": Backend(url="http://127.0.0.1:9") for number in range(1_000)}
    prober, seen = _prober(known, SimpleNamespace(probe=probe))
    began_s = time.monotonic()
    await prober.probe_all()

    assert len(seen.lives) == 1_000
    assert peak == 128
    assert time.monotonic() - began_s < 2
