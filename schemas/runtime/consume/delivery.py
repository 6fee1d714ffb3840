"""Faust's consumer with two changes: it commits in time, and it delivers without detours.

Kept apart from the app, because it leans on Faust's internals; the version is pinned exactly.
"""

from __future__ import annotations

import logging
from typing import Any

from faust.transport.drivers.aiokafka import Consumer, Transport
from faust.types import TP

_LOG = logging.getLogger(__name__)
_YIELD_EVERY = 100


class DirectConsumer(Consumer):
    """Delivers each message by awaiting the conductor, and commits before every rebalance."""

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Commit before Faust forgets what was acknowledged (FS#502).

        A failure costs redeliveries, which are harmless, so it only is logged.
        """
        try:
            await self.commit()
        except Exception:  # noqa: BLE001  # Faust's driver raises anything here; the rebalance goes on
            _LOG.exception("commit before a rebalance failed")
        await super().on_partitions_revoked(revoked)

    async def _drain_messages(self, fetcher: Any) -> None:
        """Fetch and deliver until stopped.

        Faust's own loop wraps every delivery so that a rebalance can abandon it, which costs four
        futures per message. Here a delivery that a rebalance overtakes ends in the stream, which
        skips events of older generations; the read offset of the new generation is left alone.
        """
        try:
            while not (self.should_stop or fetcher.should_stop):
                await self.sleep(0)
                await self._deliver_fetched()
        except self.consumer_stopped_errors:
            if not self.app.should_stop:
                raise

    async def _deliver_fetched(self) -> None:
        delivered = 0
        async for partition, message in self.getmany(timeout=1.0):
            delivered += 1
            if delivered % _YIELD_EVERY == 0:
                await self.sleep(0)
            if not await self._deliver(partition, message):
                return

    async def _deliver(self, partition: TP, message: Any) -> bool:
        """Hand one message over; False when a rebalance began and the rest must wait."""
        read = self._read_offset[partition]
        if read is not None and message.offset < read:
            return True
        if read and message.offset - read > 1:
            await self._add_gap(partition, read + 1, message.offset)
        if self.suspend_flow.is_set():
            return False
        await self.callback(message)
        if message.generation_id != self.app.consumer_generation_id:
            return False
        self._read_offset[partition] = message.offset
        return True


class DirectTransport(Transport):
    """aiokafka through the consumer above."""

    Consumer = DirectConsumer
