"""``/admin/v1/status``: which processes live, how far each has applied the configuration, what is overridden."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TypedDict

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ingress.admin.deps import AdminDeps
from ingress.admin.fleet.overrides import OverrideShown, overrides_shown, unended
from ingress.admin.fleet.propagation import instances_of
from schemas.config_references import Problem
from schemas.runtime.kafka.address import read_kafka_address


class InstanceShown(TypedDict):
    """A process by its own last report: what it has applied, and whether it counts as living."""

    name: str
    role: str
    offset: int
    age_ms: int
    live: bool


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
    config: ConfigShown
    overrides: list[OverrideShown]
    books: str
    kafka_brokers: str


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
        snapshot, now_ms = self.deps.config.snapshot, self.deps.clock.now_ms()
        overrides = overrides_shown(self.deps.config.entries(), snapshot.problems, now_ms)
        return JSONResponse(
            {
                "instances": [asdict(i) | {"live": i.is_live} for i in instances],
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
                "kafka_brokers": read_kafka_address(self.deps.settings.kafka_brokers).plain,
            }
        )
