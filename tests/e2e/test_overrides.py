"""Overrides of routes on two dispatchers under load: each holds within a second everywhere, ends as it says, costs no
request, and stands beside what a file declares. The backends' own logs are the oracle; figures are printed."""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.fakes.running_backend import RunningBackend, running_backend
from tests.support.harness.gateway_client import GatewayClient, steer
from tests.support.harness.grants import Grant, MakeKey
from tests.support.harness.running_stack import TALLYGATE, RunningStack
from tests.support.harness.steady_load import SteadyLoad, until

pytestmark = pytest.mark.timeout(110, func_only=True)
MODEL = "overridden-1"
ORGS = 12
"""Their requests go through every partition, and so through both dispatchers."""
IN_FORCE_WITHIN_S = 30.0
"""What is promised; a second is the goal."""
QUIET_S = 1.0
SHARE_S = 6.0


@pytest.fixture(scope="module")
def grants(make_key: MakeKey) -> list[Grant]:
    return [make_key(f"overrides-org-{number}") for number in range(ORGS)]


@pytest.fixture
def pair(
    admin: httpx.Client, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[RunningBackend, RunningBackend]]:
    """Two backends, equally weighted on the model; nothing is overridden before or afterwards."""
    folder = tmp_path_factory.mktemp("overridden")
    with ExitStack() as running:
        first, second = (
            running.enter_context(running_backend(name, folder / f"{name}.jsonl", latency_ms=20))
            for name in ("over-a", "over-b")
        )
        for backend in (first, second):
            admin.put(f"/backends/{backend.name}", json={"url": backend.url}).raise_for_status()
        admin.put(f"/models/{MODEL}", json=_declared()).raise_for_status()
        yield first, second
        admin.delete(f"/models/{MODEL}").raise_for_status()
        for name in (first.name, second.name):
            admin.delete(f"/backends/{name}").raise_for_status()
        assert admin.get("/overrides").raise_for_status().json()["items"] == []


def _declared() -> dict[str, Any]:
    targets = [{"backend": "over-a", "weight": 1}, {"backend": "over-b", "weight": 1}]
    prices = {"input_usd_per_mtok": "0.50", "output_usd_per_mtok": "1.50"}
    return {"backends": targets, **prices}


@pytest.fixture
def tallygate(stack: RunningStack) -> Any:
    """Runs a command against the stack."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [str(TALLYGATE), *arguments, "--url", stack.admin_url]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    return run


class Night:
    """An operator who overrides under load, and measures at the backends until when others were called."""

    def __init__(self, admin: httpx.Client) -> None:
        self._admin = admin
        self.figures: list[str] = []

    async def leaves(
        self, backend: RunningBackend, kind: str, name: str, fields: dict[str, Any]
    ) -> Any:
        """Put an override in force that takes a backend out; it gets its last call within the time."""
        began_ms = time.time_ns() // 1_000_000
        answer = await _write(self._admin, "PUT", kind, name, fields)
        await until(lambda: _is_quiet(backend), IN_FORCE_WITHIN_S)
        last_ms = max((call.start.at_ms for call in backend.calls()), default=began_ms)
        after_s, told_s = (last_ms - began_ms) / 1_000, answer["applied_after_ms"] / 1_000
        self.figures.append(f"{kind} {after_s:.3f} s at the backend, {told_s:.3f} s told")
        assert after_s < IN_FORCE_WITHIN_S
        assert answer["applied"]
        return answer

    async def restores(self, backend: RunningBackend, kind: str, name: str) -> None:
        """Restore; the backend is called again within the time."""
        began_s, calls = time.monotonic(), len(backend.calls())
        await _write(self._admin, "DELETE", kind, name)
        await until(lambda: len(backend.calls()) > calls, IN_FORCE_WITHIN_S)
        self.figures.append(f"{kind} restored {time.monotonic() - began_s:.3f} s")

    async def share(
        self, kind: str, of: RunningBackend, other: RunningBackend, **fields: Any
    ) -> float:
        """Put shares in force, and measure what part of the calls a backend then gets."""
        await _write(self._admin, "PUT", kind, MODEL, fields)
        before = len(of.calls()), len(other.calls())
        await asyncio.sleep(SHARE_S)
        mine, others = len(of.calls()) - before[0], len(other.calls()) - before[1]
        await _write(self._admin, "DELETE", kind, MODEL)
        self.figures.append(f"{kind}: {mine} of {mine + others} calls")
        return mine / (mine + others)


async def _write(
    admin: httpx.Client, method: str, kind: str, name: str, fields: dict[str, Any] | None = None
) -> Any:
    path = f"/overrides/{kind}/{name}"
    answer = await asyncio.to_thread(admin.request, method, path, json=fields)
    return answer.raise_for_status().json()


def _is_quiet(backend: RunningBackend) -> bool:
    """Whether it has had no new call for a second, in which fifty requests came."""
    calls = len(backend.calls())
    time.sleep(QUIET_S)
    return len(backend.calls()) == calls


async def test_overrides_hold_within_a_second_on_all_dispatchers_and_cost_no_request(
    client: GatewayClient,
    admin: httpx.Client,
    grants: list[Grant],
    pair: tuple[RunningBackend, RunningBackend],
) -> None:
    """Pin, drain, weights, canary: put in force, restored, and ended by themselves, under fifty requests a second."""
    first, second = pair
    night, keys = Night(admin), [grant.key for grant in grants]
    async with SteadyLoad(client, keys, MODEL) as load:
        await until(lambda: bool(first.calls() and second.calls()), IN_FORCE_WITHIN_S)
        await night.leaves(first, "pin", MODEL, {"backend": second.name})
        await night.restores(first, "pin", MODEL)
        await night.leaves(second, "drain", second.name, {"reason": "new driver"})
        await night.restores(second, "drain", second.name)
        await night.leaves(first, "weights", MODEL, {"weights": {first.name: 0}})
        await night.restores(first, "weights", MODEL)
        canary = await night.share("canary", first, second, backend=first.name, percent=10)
        weighted = await night.share("weights", first, second, weights={first.name: 3})
        pinned = await night.leaves(first, "pin", MODEL, {"backend": second.name, "for_s": 3})
        calls = len(first.calls())
        await until(lambda: len(first.calls()) > calls, IN_FORCE_WITHIN_S)
        late_ms = first.calls()[calls].start.at_ms - pinned["body"]["expires_at_ms"]
        await _write(admin, "DELETE", "pin", MODEL)
    night.figures.append(f"pin ended by itself, next call {late_ms / 1_000:.3f} s after its end")
    print("\n" + "\n".join(night.figures) + f"\nreplies {dict(load.statuses())}")

    assert set(load.statuses()) == {200}
    # Five standard deviations of 300 draws.
    assert canary == pytest.approx(0.1, abs=0.09)
    assert weighted == pytest.approx(0.75, abs=0.13)
    assert 0 <= late_ms < 1_000 * IN_FORCE_WITHIN_S


async def test_calls_under_way_end_at_a_drained_backend(
    client: GatewayClient,
    admin: httpx.Client,
    grants: list[Grant],
    pair: tuple[RunningBackend, RunningBackend],
) -> None:
    """Whoever was sent there before is answered from there."""
    first, second = pair
    slow = client.chat(grants[0].key, steer(delay_ms=3_000), model=MODEL, max_tokens=20)
    request = asyncio.create_task(slow)
    await until(lambda: bool(first.calls() or second.calls()), 10)
    busy = first if first.calls() else second
    await _write(admin, "PUT", "drain", busy.name, {})
    reply = await request
    await _write(admin, "DELETE", "drain", busy.name)

    assert reply.status == 200
    assert reply.headers["x-tallygate-backend"] == busy.name


async def test_where_no_backend_is_left_a_client_hears_whose_decision_that_is(
    client: GatewayClient,
    admin: httpx.Client,
    grants: list[Grant],
    pair: tuple[RunningBackend, RunningBackend],
) -> None:
    """All drained, or pinned to one that is drained: 503 and no call; nothing is charged."""
    first, second = pair
    for backend in pair:
        answer = await _write(admin, "PUT", "drain", backend.name, {})
    assert any(MODEL in warning for warning in answer["warnings"])
    drained = await client.chat(grants[0].key, "hello", model=MODEL)
    await _write(admin, "DELETE", "drain", second.name)
    await _write(admin, "PUT", "pin", MODEL, {"backend": first.name})
    pinned = await client.chat(grants[0].key, "hello", model=MODEL)
    calls = len(first.calls()) + len(second.calls())
    await _write(admin, "DELETE", "pin", MODEL)
    await _write(admin, "DELETE", "drain", first.name)

    assert [drained.status, pinned.status, calls] == [503, 503, 0]
    for reply, word in ((drained, "drained"), (pinned, "pinned")):
        assert reply.json["error"]["code"] == "no_backend_available"
        assert word in reply.json["error"]["message"]


def test_a_file_that_is_applied_neither_undoes_nor_breaks_an_override(
    admin: httpx.Client,
    tallygate: Any,
    tmp_path: Path,
    pair: tuple[RunningBackend, RunningBackend],
) -> None:
    """It differs in nothing; one that would take a pinned backend off its route is refused before anything is written."""
    first, second = pair
    file = tmp_path / "tallygate.yaml"
    declared = (
        f"backends:\n  over-a: {{url: '{first.url}'}}\n  over-b: {{url: '{second.url}'}}\n"
        f"models:\n  {MODEL}:\n    input_usd_per_mtok: '0.50'\n    output_usd_per_mtok: '1.50'\n    backends:\n"
    )
    file.write_text(f"{declared}    - {{backend: over-a}}\n    - {{backend: over-b}}\n")
    tallygate("routes", "pin", MODEL, "over-a", "--for", "1h", "--reason", "night")
    tallygate("routes", "drain", "over-b")
    before = admin.get("/overrides").json()["items"]

    applied = tallygate("config", "apply", "-f", str(file))
    assert (applied.returncode, applied.stdout) == (0, "nothing differs\n")

    file.write_text(f"{declared}    - {{backend: over-b}}\n")
    refused = tallygate("config", "apply", "-f", str(file))
    assert refused.returncode == 1
    assert f"pin/{MODEL}" in refused.stderr
    assert admin.get("/overrides").json()["items"] == before
    assert len(before) == 2

    for name in (MODEL, "over-b"):
        assert tallygate("routes", "restore", name).returncode == 0
    assert tallygate("config", "apply", "-f", str(file)).returncode == 0


def test_the_command_line_says_what_is_overridden_and_what_a_request_would_do(
    admin: httpx.Client,
    tallygate: Any,
    grants: list[Grant],
    pair: tuple[RunningBackend, RunningBackend],
) -> None:
    """As both dispatchers see it; what it says is what they draw by."""
    canary = tallygate(
        "routes", "canary", MODEL, "over-b=5", "--for", "1h", "--reason", "new version"
    )
    listed = tallygate("routes", "list")
    status = tallygate("config", "status")
    told = tallygate("routes", "explain", MODEL, "--key", grants[0].key_id)

    assert canary.returncode == 0, canary.stderr
    assert "in force everywhere after" in canary.stdout
    for page in (listed, status):
        assert "5 % to over-b" in page.stdout
        assert "new version" in page.stdout
    assert told.returncode == 0, told.stderr
    assert "override: canary" in told.stdout
    for said in ("dispatcher-0", "dispatcher-1", "over-a: gets 95 %", "over-b: gets 5 %"):
        assert said in told.stdout
    (event,) = [
        event
        for event in admin.get("/audit", params={"limit": "100"}).json()["items"]
        if event["action"] == "admin.route_canary" and event["detail"]["id"] == MODEL
    ][:1]
    assert event["detail"]["override"]["reason"] == "new version"

    assert tallygate("routes", "restore", MODEL, "--only", "canary").returncode == 0
    assert "override" not in tallygate("routes", "explain", MODEL).stdout
