"""``/admin/v1/status``: which processes live and what each says of itself, the brokers' disks, the configuration, what is overridden."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, TypedDict

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ingress.admin.deps import AdminDeps
from ingress.admin.fleet.overrides import OverrideShown, overrides_shown, unended
from ingress.admin.fleet.propagation import Instance, instances_of
from schemas.config_references import Problem
from schemas.ledger.keys import BROKER_DISK
from schemas.reports import ProcessReport, read_disk_report
from schemas.runtime.kafka.address import read_kafka_address
from schemas.runtime.valkey.store import text_pairs


class InstanceShown(TypedDict):
    """A process by its own last report: what it has applied, what it says of itself, and whether it counts as living."""

    name: str
    role: str
    offset: int
    age_ms: int
    report: ProcessReport | None
    live: bool


class DiskShown(TypedDict):
    """The disk of a broker, as its host told."""

    host: str
    free_bytes: int
    total_bytes: int
    age_ms: int


class ConfigShown(TypedDict):
    """The configuration as this process sees it."""

    offset: int
    following: bool
    alarm: str | None
    closed: list[str]
    problems: list[Problem]


class StatusAnswer(TypedDict):
    """Which processes live, how far each has applied the configuration, and what is overridden."""

    instances: list[InstanceShown]
    disks: list[DiskShown]
    config: ConfigShown
    overrides: list[OverrideShown]
    books: str
    kafka_brokers: str
    kafka_protocol: str


@dataclass(frozen=True, slots=True)
class StatusRoutes:
    """The handler of the status page."""

    deps: AdminDeps
    books: Callable[[], str]
    """What readiness says of them."""

    def routes(self) -> list[Route]:
        """The path."""
        return [Route("/status", self.status, methods=["GET"])]

    async def status(self, _: Request) -> Response:
        """Instances by their own reports, and the configuration as this process sees it."""
        instances = await instances_of(self.deps.ledger_store, self.deps.clock)
        disks = text_pairs(await self.deps.ledger_store.call("HGETALL", BROKER_DISK))
        brokers = read_kafka_address(self.deps.settings.kafka_brokers)
        snapshot, now_ms = self.deps.config.snapshot, self.deps.clock.now_ms()
        overrides = overrides_shown(self.deps.config.entries(), snapshot.problems, now_ms)
        return JSONResponse(
            {
                "instances": list(map(_shown, instances)),
                "disks": _disks(disks, now_ms),
                "config": {
                    "offset": snapshot.offset,
                    "following": self.deps.config.following,
                    "alarm": self.deps.config.alarm,
                    "closed": sorted("/".join(identity) for identity in snapshot.closed),
                    "problems": [
                        asdict(problem) for problem in unended(snapshot.problems, overrides)
                    ],
                },
                "overrides": overrides,
                "books": self.books(),
                "kafka_brokers": brokers.plain,
                "kafka_protocol": brokers.protocol,
            }
        )


def _shown(instance: Instance) -> dict[str, Any]:
    shown: dict[str, Any] = msgspec.to_builtins(instance)
    return shown | {"live": instance.is_live}


def _disks(lines: Mapping[str, str], now_ms: int) -> list[dict[str, Any]]:
    """The disks of brokers by the host that told, and how old that is; what is no report is left out."""
    told = {host: read_disk_report(line) for host, line in sorted(lines.items())}
    return [
        {
            "host": host,
            "free_bytes": disk.free_bytes,
            "total_bytes": disk.total_bytes,
            "age_ms": now_ms - disk.at_ms,
        }
        for host, disk in told.items()
        if disk is not None
    ]
