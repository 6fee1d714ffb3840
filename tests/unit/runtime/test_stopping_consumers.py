"""A consumer stops within seconds at whatever moment: a rebuild that waits for its reader keeps its shards closed."""

from __future__ import annotations

import asyncio
from typing import Any, cast
from unittest.mock import MagicMock

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.consumer.fetcher import Fetcher
from aiokafka.consumer.subscription_state import SubscriptionState

from schemas.runtime.kafka import free_consumer

_PARTITION = TopicPartition("outcomes", 0)
_TURNS_MAX = 5


class Reading:
    """aiokafka's own fetcher, whose broker takes its time over a fetch; no socket is opened."""

    def __init__(self) -> None:
        self.subscription = SubscriptionState()
        client = MagicMock(api_version=(2, 0, 0))
        client.send = self._never
        client.force_metadata_update = asyncio.get_running_loop().create_future
        client.cluster.leader_for_partition.return_value = 1
        self.fetcher = Fetcher(client, self.subscription, auto_offset_reset="earliest")

    async def _never(self, *_: Any) -> Any:
        await asyncio.get_running_loop().create_future()

    async def stop(self) -> None:
        """As a consumer of no group does."""
        await self.fetcher.close()


async def _turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


@pytest.mark.parametrize("turns", range(_TURNS_MAX))
async def test_it_stops_right_after_it_gave_its_partition_up(
    turns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One or two turns of the loop later its fetcher loses the first cancellation."""
    monkeypatch.setattr(free_consumer, "_STOPS_WITHIN_S", 0.05)
    reading = Reading()
    reading.subscription.assign_from_user([_PARTITION])
    reading.subscription.seek(_PARTITION, 0)
    await _turns(10)
    reading.subscription.unsubscribe()
    await _turns(turns)

    stopping = asyncio.create_task(
        free_consumer.stop_consumer(cast("AIOKafkaConsumer", reading)), name="stopping"
    )
    done, _ = await asyncio.wait({stopping}, timeout=2.0)

    assert done
    stopping.result()
    assert reading.fetcher._fetch_task.done()


async def test_what_goes_wrong_is_told() -> None:
    """A consumer that cannot be stopped says why."""

    class Broken:
        async def stop(self) -> None:
            raise OSError("no route")

    with pytest.raises(OSError, match="no route"):
        await free_consumer.stop_consumer(cast("AIOKafkaConsumer", Broken()))
