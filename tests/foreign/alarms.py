"""Each alert is made to fire by its fault and clears when that is gone, with a real Prometheus: `make alarms`.

Faults are real: processes, stores and the broker hang (SIGSTOP), backends fail, somebody asks too much, a record is garbage, a disk
fills, a certificate ends, a sum is changed by hand. The rules are those that are shipped, with all their windows and waits divided
by sixty: an hour is a minute. Undivided they are tested by promtool (`rules/alerts_test.yml`). What the gateway itself takes to see a
fault is not divided.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

import httpx
import yaml

from deploy.embedded.problem import StackError
from tests.foreign import faults
from tests.foreign.faults import Fault, Scene
from tests.foreign.prometheus import RULES, Prometheus, running_prometheus
from tests.foreign.watched_stack import traffic, watched_stack
from tests.support.fakes.running_backend import running_backend

_FASTER: Final = 60
_FIRES_WITHIN_S: Final = 150.0
_CLEARS_WITHIN_S: Final = 450.0
"""The longest short window is six hours."""
_LOOK_S: Final = 0.5
_WARM_UP_S: Final = 20.0
_OWN_DISK: Final = Path("/dev/shm")
"""In memory, where there is one: what is free on a disk that others use moves by itself."""
_USUAL: Final = ("plain", "stream")


class Trial(NamedTuple):
    """A fault, and the alerts that it has to raise."""

    what: str
    fault: Fault
    alerts: tuple[str, ...]


TRIALS: Final = (
    Trial(
        "a backend answers each fourth request with 500",
        faults.sent_instead("failing", "plain", "plain", "stream"),
        (
            "TallygateErrorBudgetBurnsFast",
            "TallygateErrorBudgetBurns",
            "TallygateErrorBudgetBurnsSlowly",
            "TallygateErrorBudgetLeaks",
        ),
    ),
    Trial(
        "one organization asks for ten times what it may",
        faults.sent_instead("loud"),
        ("TallygateManyRefused",),
    ),
    Trial("a record that is none", faults.poison, ("TallygateDeadLetters",)),
    Trial(
        "an entry whose backend is gone", faults.refused_entry, ("TallygateConfigurationRefused",)
    ),
    Trial("accounting hangs", faults.hangs("accounting-0"), ("TallygateProcessDown",)),
    Trial("one of two backends hangs", faults.backends_hang(1), ("TallygateBackendDown",)),
    Trial("both backends hang", faults.backends_hang(2), ("TallygateModelWithoutBackend",)),
    Trial("a sum is changed by hand", faults.wrong_books, ("TallygateBooksDiffer",)),
    Trial(
        "the certificate ends in nine days",
        faults.ending_certificate,
        ("TallygateCertificateNearExpiry",),
    ),
    Trial("the broker's disk fills by 4 MiB/s", faults.disk_fills, ("TallygateDiskFills",)),
    Trial("the broker's disk is low", faults.disk_low, ("TallygateDiskLow",)),
    Trial("the bus hangs", faults.hangs("bus"), ("TallygateBusDown",)),
    Trial("the ledger hangs", faults.hangs("ledger"), ("TallygateLedgerDown", "TallygateLag")),
    Trial(
        "the ledger is empty, and accounting hangs",
        faults.ledger_lost,
        ("TallygateLedgerShardsClosed",),
    ),
    Trial("Kafka hangs", faults.hangs("kafka"), ("TallygateKafkaDown",)),
)


@dataclass(frozen=True, slots=True)
class Row:
    """What became of one alert."""

    alert: str
    what: str
    fired_s: float | None
    """After the fault began; ``None`` when it never did, or fired before."""
    cleared_s: float | None
    """After the fault ended."""

    @property
    def is_good(self) -> bool:
        """Whether it fired and cleared."""
        return self.fired_s is not None and self.cleared_s is not None

    def __str__(self) -> str:
        def told(seconds: float | None) -> str:
            return "never" if seconds is None else f"{seconds:.0f} s"

        return f"| `{self.alert}` | {self.what} | {told(self.fired_s)} | {told(self.cleared_s)} |"


async def try_one(trial: Trial, scene: Scene, prometheus: Prometheus) -> tuple[list[Row], set[str]]:
    """Make the fault, wait for its alerts, end the fault, wait until they are over; and who fired beside them."""
    await _until(prometheus, set(), trial.alerts, _CLEARS_WITHIN_S)
    before = set(await asyncio.to_thread(prometheus.firing))
    began_s, fired, beside = time.monotonic(), {}, set[str]()
    try:
        async with trial.fault(scene):
            fired = await _until(prometheus, set(trial.alerts), trial.alerts, _FIRES_WITHIN_S)
            beside = await asyncio.to_thread(prometheus.firing)
    except (httpx.HTTPError, OSError, StackError, TimeoutError) as error:
        print(f"the fault could not be made or ended: {error!r}", flush=True)
    ended_s = time.monotonic()
    cleared = await _until(prometheus, set(), trial.alerts, _CLEARS_WITHIN_S)
    rows = [
        Row(
            alert,
            trial.what,
            _since(began_s, None if alert in before else fired.get(alert)),
            _since(ended_s, cleared.get(alert)),
        )
        for alert in trial.alerts
    ]
    return rows, beside - set(trial.alerts) - before


def _since(began_s: float, at_s: float | None) -> float | None:
    return None if at_s is None else max(0.0, at_s - began_s)


async def _until(
    prometheus: Prometheus, wanted: set[str], alerts: Sequence[str], within_s: float
) -> dict[str, float]:
    """When each of the alerts was first seen as it is wanted, firing or not."""
    seen: dict[str, float] = {}
    give_up_s = time.monotonic() + within_s
    while len(seen) < len(alerts) and time.monotonic() < give_up_s:
        firing = await asyncio.to_thread(prometheus.firing)
        for alert in alerts:
            if (alert in firing) is (alert in wanted):
                seen.setdefault(alert, time.monotonic())
        await asyncio.sleep(_LOOK_S)
    return seen


async def run(folder: Path, trials: Sequence[Trial]) -> int:
    """Try them one after the other on one stack; 1 when one did not fire, or did not clear."""
    rows: list[Row] = []
    with ExitStack() as running:
        backends = [
            running.enter_context(running_backend(name, folder / f"{name}.jsonl"))
            for name in ("fake-a", "fake-b")
        ]
        environment = faults.room_left(folder)
        async with watched_stack(folder / "stack", backends, environment) as watched:
            targets = watched.targets()
            with running_prometheus(folder / "prometheus", targets, _FASTER) as prometheus:
                async with traffic(watched, _USUAL) as load:
                    await asyncio.sleep(_WARM_UP_S)
                    quiet = await asyncio.to_thread(prometheus.firing)
                    print(f"before any fault there fire: {sorted(quiet) or 'none'}", flush=True)
                    for trial in trials:
                        found, beside = await try_one(trial, Scene(watched, load), prometheus)
                        rows += found
                        print(*found, sep="\n", flush=True)
                        if beside:
                            print(f"  beside: {', '.join(sorted(beside))}", flush=True)
    good = sum(row.is_good for row in rows)
    print(f"{good} of {len(rows)} alerts fired and cleared")
    return 0 if good == len(rows) and not quiet else 1


def all_alerts() -> Iterator[str]:
    """Those that are shipped."""
    for group in yaml.safe_load((RULES / "alerts.yml").read_text())["groups"]:
        yield from (rule["alert"] for rule in group["rules"])


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    known = [alert for trial in TRIALS for alert in trial.alerts]
    parser.add_argument("--only", nargs="*", default=known, choices=known, help="alerts")
    chosen = set(parser.parse_args().only)
    trials = [trial for trial in TRIALS if chosen & set(trial.alerts)]
    place = str(_OWN_DISK) if _OWN_DISK.is_dir() else None
    with tempfile.TemporaryDirectory(prefix="tallygate-alarms-", dir=place) as folder:
        sys.exit(asyncio.run(run(Path(folder), trials)))


if __name__ == "__main__":
    main()
