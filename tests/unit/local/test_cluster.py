"""What a server of a cluster is told, and what it may answer."""

from __future__ import annotations

from typing import cast

import pytest
import redis.asyncio as redis
from redis.exceptions import ResponseError

from deploy.embedded.cluster import cluster_settings, promote


def test_the_port_between_servers_is_a_chosen_one() -> None:
    """The usual one is 10 000 above the clients', where there may be none."""
    assert "cluster-port 41725\n" in cluster_settings(41_725)


class Replica:
    """A server that copies another until its neighbours elect it, or it is told to take over."""

    def __init__(self, elected_at: int | None = None, refuses: bool = False) -> None:
        self.asked: list[str] = []
        self._elected_at, self._refuses, self._copies = elected_at, refuses, True

    async def execute_command(self, *command: str) -> str:
        """What a server answers to CLUSTER NODES and CLUSTER FAILOVER."""
        self.asked.append(command[1])
        if command[1] == "NODES":
            role = "slave primary" if self._copies else "master -"
            return f"me 127.0.0.1:1@2 myself,{role} 0 0 1 connected"
        elected = len(self.asked) == self._elected_at
        self._copies = self._refuses and not elected
        if self._refuses or elected:
            raise ResponseError("You should send CLUSTER FAILOVER to a replica")
        return "OK"


async def test_a_replica_that_was_elected_while_it_was_to_be_promoted_is_promoted() -> None:
    """The neighbours may be faster by the time of one question."""
    elected, told = Replica(elected_at=2), Replica()

    await promote(cast("redis.Redis", elected))
    await promote(cast("redis.Redis", told))

    assert told.asked == ["NODES", "FAILOVER", "NODES"]
    assert elected.asked == ["NODES", "FAILOVER", "NODES", "NODES"]


async def test_a_replica_that_refuses_and_still_copies_is_a_problem() -> None:
    """It says itself why."""
    with pytest.raises(ResponseError, match="FAILOVER"):
        await promote(cast("redis.Redis", Replica(refuses=True)))
