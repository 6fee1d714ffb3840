"""What a scenario has at hand: the gateway, how long and how much is wanted, and a driver."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any

from deploy.bench.arrivals import CONSTANT
from deploy.bench.counts import per_request, read_counts
from deploy.bench.driving import driven
from deploy.bench.load import Driven, Load
from deploy.bench.report import OK_OR_LATE, Latency, Report, Sample, make_report
from deploy.bench.target import Target
from deploy.embedded.roles import ROLES

STORES = ("kafka", "ledger", "bus")


class Unmeasurable(Exception):
    """A scenario cannot be measured here, and why."""


@dataclass(frozen=True)
class Wanted:
    """What the user asked for."""

    rate_per_s: float = 50.0
    connections: int = 64
    arrivals: str = CONSTANT
    seed: int = 1
    scale: float = 1.0
    """How long everything takes, against what is usual."""


@dataclass(frozen=True)
class Measured:
    """One driven load: its report, and the samples behind it."""

    report: Report
    samples: Sequence[Sample]
    began_ms: int

    @property
    def latency(self) -> Latency:
        """Its latency. Raises ``Unmeasurable`` where nothing was answered."""
        return _given(self.report, self.report.latency)

    @property
    def first(self) -> Latency:
        """Time to the first token. Raises ``Unmeasurable`` where nothing was answered."""
        return _given(self.report, self.report.first)


@dataclass(frozen=True)
class Bench:
    """The gateway under measurement and what is wanted of it."""

    target: Target
    wanted: Wanted
    tell: Callable[[str], None]
    fresh: Callable[[], AbstractAsyncContextManager[Target]] | None = None
    """Another stack like the one under measurement; ``None`` for a gateway that runs already."""
    serial: Iterator[int] = field(default_factory=count)

    def at(self, target: Target) -> Bench:
        """The same at another gateway."""
        return replace(self, target=target)

    def unique(self) -> int:
        """A number that no earlier run had."""
        return next(self.serial)

    def seconds(self, usual: float) -> float:
        """A time in proportion to what is wanted, a second at least."""
        return max(1.0, usual * self.wanted.scale)

    def number(self, usual: int) -> int:
        """A number in proportion to what is wanted."""
        return max(1, round(usual * self.wanted.scale))

    def load(self, **changes: Any) -> Load:
        """A load of the gateway, as wanted where nothing else is said."""
        wanted: dict[str, Any] = {
            "url": self.target.url,
            "keys": [self.target.key],
            "model": self.target.model,
            "connections": self.wanted.connections,
            "rate_per_s": self.wanted.rate_per_s,
            "arrivals": self.wanted.arrivals,
            "seed": self.wanted.seed,
            "pids": dict(self.target.pids),
        }
        return Load(**(wanted | changes))

    def at_backend(self, load: Load) -> dict[str, Any]:
        """What changes of a load that goes to the backend itself."""
        if self.target.backend_url is None:
            raise Unmeasurable("added latency needs the backend's own: give --backend-url")
        return {"url": self.target.backend_url, "keys": ["none"] * len(load.keys)}

    async def drive(self, name: str, load: Load) -> Measured:
        """Drive it, and tell what is going on."""
        what = (
            f"{load.connections} connections" if load.loop == "closed" else f"{load.rate_per_s:g}/s"
        )
        self.tell(f"{name}: {what}, {load.seconds:g} s")
        return measured(name, await driven(load))

    async def counted(self, name: str, load: Load) -> tuple[Measured, dict[str, dict[str, float]]]:
        """Drive it, and what each process did for one request, where they count."""
        before = await read_counts(self.target.pages)
        found = await self.drive(name, load)
        sent = len(found.samples) * load.seconds / max(load.seconds - load.warm_up_s, 0.001)
        return found, per_request(before, await read_counts(self.target.pages), round(sent))


def measured(name: str, came: Driven) -> Measured:
    """The report of what a driver brought back."""
    report = make_report(
        name, came.samples, came.duration_s, came.costs, came.send_delays_s, came.reference_cpu_ms
    )
    return Measured(report, came.samples, came.began_ms)


def own_cpu_ms(report: Report) -> float:
    """CPU per request of all processes of the gateway together, the control plane included."""
    return _cpu_ms(report, lambda name: name.rpartition("-")[0] in ROLES)


def stores_cpu_ms(report: Report) -> float:
    """CPU per request of broker, ledger and bus."""
    return _cpu_ms(report, lambda name: name in STORES)


def latencies_s(found: Measured) -> list[float]:
    """Those that a report's percentiles are of."""
    return [sample.latency_s for sample in found.samples if sample.outcome in OK_OR_LATE]


def _cpu_ms(report: Report, is_meant: Callable[[str], bool]) -> float:
    found = report.processes.items()
    return sum(cost.cpu_ms_per_request or 0.0 for name, cost in found if is_meant(name))


def _given(report: Report, found: Latency | None) -> Latency:
    if found is None:
        raise Unmeasurable(f"{report.name}: nothing was answered well: {report.errors}")
    return found
