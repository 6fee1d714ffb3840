"""Meets every shard on each new connection to its store, before anybody else uses that.

A store that was restarted, restored, or promoted from a replica may lack what was decided last. Nothing in it
says so, but it is another process: its shards close, and their owners make them again from the log.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from schemas.ledger import calls
from schemas.ledger.keys import META, of_shard
from schemas.ledger.shards import Shards
from schemas.log_events import LogEvent
from schemas.runtime.process.event_log import EventLog
from schemas.runtime.valkey.store import NodeView

_LOG = EventLog(__name__)

_RESTARTED = "restarted"


@dataclass(slots=True)
class Meetings:
    """The shards that a new connection meets; none before it is known how many there are."""

    shards: Shards | None = None

    async def greet(self, node: NodeView) -> None:
        """Meet the shards that this server has from now on. Raises ``StoreUnavailable``, ``StoreError``."""
        served = [shard for shard in self.shards or () if node.serves(of_shard(shard, META))]
        # Together, so that no reply is left that nobody hears when the first one fails.
        replies = await asyncio.gather(*(node.send(*calls.meet(shard).command) for shard in served))
        for shard, reply in zip(served, replies, strict=True):
            if calls.meet(shard).decode(reply).why == _RESTARTED:
                _LOG.event(LogEvent.SHARD_CLOSED, partition=shard, cause=_RESTARTED)
