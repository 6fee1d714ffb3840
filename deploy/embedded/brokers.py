"""The brokers of a stack: one, or three that replicate to each other, so that any of them may be killed."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError

from deploy.embedded.kafka_users import KafkaUsers
from deploy.embedded.ports import HOST
from deploy.embedded.problem import StackError
from schemas.runtime.kafka.access import client_options

POSSIBLE: Final = (1, 3)
_FIRST_PORT: Final = 9092
_TOGETHER_WITHIN_S: Final = 60.0
_LOOK_S: Final = 0.5


def broker_name(number: int) -> str:
    """The process of a node."""
    return f"kafka-{number}" if number else "kafka"


def controller_name(number: int) -> str:
    """What the node's second port is called."""
    return f"controller-{number}" if number else "controller"


def broker_ports(count: int) -> dict[str, int]:
    """The ports that the nodes would like to have: each is broker and controller."""
    ports = {broker_name(n): _FIRST_PORT + 2 * n for n in range(count)}
    return ports | {controller_name(n): _FIRST_PORT + 2 * n + 1 for n in range(count)}


@dataclass(frozen=True)
class Brokers:
    """How many there are, where, and who is let in."""

    count: int
    ports: Mapping[str, int]
    users: KafkaUsers | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Their processes."""
        return tuple(map(broker_name, range(self.count)))

    @property
    def copies(self) -> int:
        """Of each partition."""
        return self.count

    @property
    def voters(self) -> str:
        """Those who elect a controller, as Kafka's setting has it."""
        places = (f"{n + 1}@{HOST}:{self.ports[controller_name(n)]}" for n in range(self.count))
        return ",".join(places)

    def address_of(self, user: str) -> str:
        """Where a user connects to, as the setting of a process."""
        servers = ",".join(f"{HOST}:{self.ports[name]}" for name in self.names)
        return servers if self.users is None else self.users.address_of(user, servers)

    async def together(self, user: str) -> None:
        """Return once each knows all: a topic with copies is refused before. Raises StackError when that takes too long."""
        give_up_s = asyncio.get_running_loop().time() + _TOGETHER_WITHIN_S
        while await self._known(user) < self.count:
            if asyncio.get_running_loop().time() > give_up_s:
                raise StackError(
                    f"the {self.count} brokers did not find each other",
                    f"not all were there after {_TOGETHER_WITHIN_S:g} s",
                    "read kafka.log, kafka-1.log and kafka-2.log in the state folder",
                )
            await asyncio.sleep(_LOOK_S)

    async def _known(self, user: str) -> int:
        client = AIOKafkaClient(**client_options(self.address_of(user)))
        try:
            await client.bootstrap()
            return len(client.cluster.brokers())
        except KafkaError:
            return 0
        finally:
            await client.close()
