"""``/admin/v1/lag``: how far the workers are behind, by the offsets they committed."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TypedDict

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ingress.admin.deps import AdminDeps
from ingress.admin.fleet.lag import GROUP_TOPICS, PartitionLag, lags_of, next_offset
from ingress.admin.log.positions import positions_of, times_at
from schemas.runtime.kafka.free_consumer import committed_offsets

_READ_DEADLINE_S = 3.0


class LagAnswer(TypedDict):
    """Every partition of every consumer group."""

    items: list[PartitionLag]


@dataclass(frozen=True, slots=True)
class LagRoutes:
    """The handler of lag."""

    deps: AdminDeps

    def routes(self) -> list[Route]:
        """The path."""
        return [Route("/lag", self.lag, methods=["GET"])]

    async def lag(self, _: Request) -> Response:
        """Every group and partition. The ends are read last, so no lag is below 0."""
        brokers = self.deps.settings.kafka_brokers
        committed = await committed_offsets(brokers, GROUP_TOPICS.keys())
        positions = await positions_of(brokers, frozenset().union(*GROUP_TOPICS.values()))
        # No topic is read by two groups, so a partition names its group.
        offsets = {
            partition: offset
            for group, topics in GROUP_TOPICS.items()
            for partition, at in positions.items()
            if partition.topic in topics
            and (offset := next_offset(committed[group].get(partition), at)) < at.end
        }
        oldest = await times_at(brokers, offsets, self.deps.clock, _READ_DEADLINE_S)
        clock = self.deps.clock
        since_ms = {
            partition: clock.happened_ms(at_ms) or at_ms for partition, at_ms in oldest.items()
        }
        lags = lags_of(committed, positions, since_ms, clock.now_ms())
        return JSONResponse({"items": [asdict(lag) for lag in lags]})
