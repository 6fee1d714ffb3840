"""Faust's consumer in the process's own event loop instead of a thread and a loop of its own.

Faust's thread costs a worker a quarter to half of its time: a second selector, a wake-up and a future for
every fetch, and the hand-overs of the interpreter's lock. What the thread gave is heartbeats while the main
loop is blocked. Now a loop that is blocked for longer than the group's session timeout loses its partitions,
as it should: nothing of theirs moves in it. Shorter blocks cost nothing, since the heartbeat is due when they
end (docs/adr/0105-consumer-in-the-main-loop.md).
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final

from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread
from mode import Service

from schemas.failures import Defect

__all__ = ["ConsumerEnded", "MainLoopConsumer"]

_STOPS_WITHIN_S: Final = 3.0


class ConsumerEnded(Defect):
    """aiokafka's own work ended although nobody stopped it: nothing would be read any more."""


class MainLoopConsumer(AIOKafkaConsumerThread):
    """A thread of Faust's by type, a plain service by what it does.

    ``ServiceThread`` replaces the way a service starts and stops; those replacements are taken back here.
    """

    wait_for_shutdown = False
    """Nothing runs elsewhere that has to report its end."""

    def __init__(self, consumer: Any, **more: Any) -> None:
        # Both sides of every hand-over are this loop, also those that are left as they are.
        loop = asyncio.get_running_loop()
        super().__init__(consumer, **{**more, "loop": loop, "thread_loop": loop})

    async def maybe_start(self) -> bool:
        """A thread has a flag of its own for this."""
        return await Service.maybe_start(self)

    async def start(self) -> None:
        """Connect here instead of in a thread; what fails is raised to whoever starts us."""
        await Service.start(self)

    async def stop(self) -> None:
        """There is no thread to join."""
        await Service.stop(self)

    def _stopped_set(self) -> None:
        # At once and not a turn later, or a second stop in between would begin again.
        self._stopped.set()

    async def _stop_futures(self) -> None:
        # The thread did it in its own loop.
        await self._default_stop_futures()

    async def on_stop(self) -> None:
        """Disconnect: the thread did it when its loop was about to end.

        Bounded, since a rebalance may be under way that others have to finish. The deadline's cancellation
        also ends a fetcher that lost the first one (see ``free_consumer.stop_consumer``). Tasks that are left
        are the process's, whose loop cancels them; a thread's loop cancelled all that were in it.
        """
        if self._consumer is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(_STOPS_WITHIN_S):
                    await self._consumer.stop()

    def close(self) -> None:
        """Faust calls it in a rebalance that meets the stop, and would close the connections under it;
        ``on_stop`` follows and does it in order."""

    async def call_thread(
        self, fun: Callable[..., Awaitable[Any]], *args: Any, **kwargs: Any
    ) -> Any:
        """Call it here: no queue, no future, no wake-up. aiokafka expects several callers in its loop."""
        result = fun(*args, **kwargs)
        return await result if inspect.isawaitable(result) else result

    @Service.task
    async def _thread_keepalive(self) -> None:
        """In place of what wakes an idle thread up: the end of the process when the member's or the
        fetcher's task ends, which Faust never looks at. Both are ended by a stop or by leaving the group."""
        consumer = self._ensure_consumer()
        coordinator, fetcher = consumer._coordinator, consumer._fetcher
        done, _ = await asyncio.wait(
            {coordinator._coordination_task, fetcher._fetch_task},
            return_when=asyncio.FIRST_COMPLETED,
        )
        if not (coordinator._closing.done() or self.should_stop):
            causes = [task for task in done if task.cancelled() or task.exception()]
            raise ConsumerEnded(f"aiokafka's own work ended: {causes}")
