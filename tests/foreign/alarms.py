"""Each alert is made to fire by its fault and clears when that is gone, with a real Prometheus: `make alarms`.

Faults are real: processes, stores and the broker hang (SIGSTOP), backends fail, somebody asks too much, a record is garbage. The
rules are those that are shipped with all their times divided by thirty. What no fault can make in minutes is left to the unit
tests of the rules, with its reason in `NOT_HERE`; the table says so.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

import yaml
from confluent_kafka import Producer

from tests.foreign.prometheus import RULES, Prometheus, running_prometheus
from tests.foreign.watched_stack import Watched, traffic, watched_stack
from tests.support.fakes.running_backend import RunningBackend, running_backend

_FASTER: Final = 30
_FIRES_WITHIN_S: Final = 60.0
_CLEARS_WITHIN_S: Final = 90.0
_LOOK_S: Final = 0.5
_WARM_UP_S: Final = 15.0


@dataclass(frozen=True, slots=True)
class Scene:
    """What a fault has at hand."""

    watched: Watched
    backends: Sequence[RunningBackend]
    kinds: list[str]
    """Of the traffic, which a fault may change."""


Fault: TypeAlias = Callable[[Scene], AbstractAsyncContextManager[None]]


@asynccontextmanager
async def _hanging(*pids: int) -> AsyncIterator[None]:
    """Processes that are there and do nothing."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def _hangs(*names: str) -> Fault:
    return lambda scene: _hanging(*(scene.watched.pid(name) for name in names))


def _backends_hang(count: int) -> Fault:
    return lambda scene: _hanging(*(backend.pid for backend in scene.backends[:count]))


@asynccontextmanager
async def _sent_instead(scene: Scene, *kinds: str) -> AsyncIterator[None]:
    before = list(scene.kinds)
    scene.kinds[:] = kinds
    try:
        yield
    finally:
        scene.kinds[:] = before


@asynccontextmanager
async def _garbage(scene: Scene, topic: str, key: bytes) -> AsyncIterator[None]:
    """A record that nobody can read."""
    producer = Producer({"bootstrap.servers": scene.watched.stack.kafka_brokers})
    producer.produce(topic, value=b"\x00no record", key=key)
    await asyncio.to_thread(producer.flush, 10)
    yield


@asynccontextmanager
async def _refused_entry(scene: Scene) -> AsyncIterator[None]:
    """An entry of the configuration that no process can read, until it is written anew."""
    admin = scene.watched.admin
    (await admin.put("/orgs/broken", json={})).raise_for_status()
    async with _garbage(scene, "config.entries.v1", b"organization/broken"):
        yield
    (await admin.put("/orgs/broken", json={})).raise_for_status()


FAULTS: Final[Mapping[str, Fault]] = {
    "TallygateErrorBudgetBurnsFast": lambda scene: _sent_instead(scene, "failing", "plain"),
    "TallygateErrorBudgetBurns": lambda scene: _sent_instead(scene, "failing", "plain"),
    "TallygateManyRefused": lambda scene: _sent_instead(scene, *["loud"] * 5),
    "TallygateDeadLetters": lambda scene: _garbage(scene, "inference.requests.v1", b"watched"),
    "TallygateConfigurationRefused": _refused_entry,
    "TallygateProcessDown": _hangs("accounting-0"),
    "TallygateLag": _hangs("ledger"),
    "TallygateBackendDown": _backends_hang(1),
    "TallygateModelWithoutBackend": _backends_hang(2),
    "TallygateBusDown": _hangs("bus"),
    "TallygateLedgerDown": _hangs("ledger"),
    "TallygateKafkaDown": _hangs("kafka"),
}
NOT_HERE: Final[Mapping[str, str]] = {
    "TallygateErrorBudgetBurnsSlowly": "two hours of errors, even divided minutes",
    "TallygateErrorBudgetLeaks": "three days of errors",
    "TallygateLedgerShardsClosed": "a lost ledger is open again within seconds here: make ledger-loss",
    "TallygateDiskLow": "wants a full disk: make kafka-outage",
    "TallygateDiskFills": "wants a disk that fills for hours",
    "TallygateCertificateNearExpiry": "wants an admin port with certificates: tests/unit/admin/test_mutual_tls.py",
    "TallygateBooksDiffer": "wants books that were changed by hand: make ageing",
}


@dataclass(frozen=True, slots=True)
class Row:
    """One alert."""

    alert: str
    fired_s: float | None
    cleared_s: float | None
    others: frozenset[str]
    """Who fired beside it."""


async def try_one(alert: str, scene: Scene, prometheus: Prometheus) -> Row:
    """Make the fault, wait for the alert, end the fault, wait until it is over."""
    began_s = time.monotonic()
    async with FAULTS[alert](scene):
        fired_s = await _until(prometheus, alert, began_s + _FIRES_WITHIN_S, wanted=True)
        others = await asyncio.to_thread(prometheus.firing)
    ended_s = time.monotonic()
    cleared_s = await _until(prometheus, alert, ended_s + _CLEARS_WITHIN_S, wanted=False)
    return Row(
        alert,
        None if fired_s is None else fired_s - began_s,
        None if cleared_s is None else cleared_s - ended_s,
        frozenset(others - {alert}),
    )


async def _until(
    prometheus: Prometheus, alert: str, deadline_s: float, *, wanted: bool
) -> float | None:
    while time.monotonic() < deadline_s:
        if (alert in await asyncio.to_thread(prometheus.firing)) is wanted:
            return time.monotonic()
        await asyncio.sleep(_LOOK_S)
    return None


async def run(folder: Path, alerts: Sequence[str]) -> int:
    """Try them one after the other on one stack; 1 when one did not fire, or did not clear."""
    rows = []
    with ExitStack() as running:
        backends = [
            running.enter_context(running_backend(name, folder / f"{name}.jsonl"))
            for name in ("fake-a", "fake-b")
        ]
        # Unsigned entries are believed here, so that garbage is refused for what it is.
        async with watched_stack(folder / "stack", backends, {}) as watched:
            kinds = ["plain", "stream"]
            scene = Scene(watched, backends, kinds)
            with running_prometheus(folder / "prometheus", watched.pages, _FASTER) as prometheus:
                async with traffic(watched, kinds):
                    await asyncio.sleep(_WARM_UP_S)
                    quiet = prometheus.firing()
                    print(f"before any fault there fire: {sorted(quiet) or 'none'}", flush=True)
                    for alert in alerts:
                        rows.append(await try_one(alert, scene, prometheus))
                        print(_line(rows[-1]), flush=True)
    good = [row for row in rows if row.fired_s is not None and row.cleared_s is not None]
    print(
        f"{len(good)} of {len(rows)} fired and cleared; {len(NOT_HERE)} are left to the rules' tests:"
    )
    for alert, why in NOT_HERE.items():
        print(f"  {alert}: {why}")
    return 0 if len(good) == len(rows) and not quiet else 1


def _line(row: Row) -> str:
    def told(seconds: float | None) -> str:
        return "never" if seconds is None else f"{seconds:.0f} s"

    beside = f"; beside it {', '.join(sorted(row.others))}" if row.others else ""
    return f"{row.alert:<32} fired {told(row.fired_s):>6}, cleared {told(row.cleared_s):>6}{beside}"


def all_alerts() -> set[str]:
    """Those that are shipped."""
    groups = yaml.safe_load((RULES / "alerts.yml").read_text())["groups"]
    return {rule["alert"] for group in groups for rule in group["rules"]}


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", default=(), choices=list(FAULTS), help="alerts")
    chosen = parser.parse_args().only or list(FAULTS)
    with tempfile.TemporaryDirectory(prefix="tallygate-alarms-") as folder:
        sys.exit(asyncio.run(run(Path(folder), chosen)))


if __name__ == "__main__":
    main()
