"""Asks every backend whether it lives, about every five seconds.

Drained backends are asked too, so that an operator sees whether one can be restored. Nothing that a
backend is or sends ends the rounds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from dispatcher.backends.probe_client import ProbeClient
from dispatcher.backends.registry import Backends
from schemas.entities import Backend
from schemas.log_events import LogEvent
from schemas.runtime.config.feed import ConfigFeed
from schemas.runtime.process.event_log import EventLog

_LOG = EventLog(__name__)

_PERIOD_S = 5.0
_JITTER_S = 1.0
_AT_ONCE_MAX = 128
"""Probes under way; with two seconds for each, a thousand dead backends take sixteen."""


@dataclass(slots=True)
class Prober:
    """Probes in rounds; inside a round each backend has its own moment."""

    config: ConfigFeed
    backends: Backends
    client: ProbeClient
    uniform: Callable[[float, float], float]
    _turns: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_AT_ONCE_MAX))
    said: dict[str, str] = field(default_factory=dict)
    """What the last probe of each backend came to."""

    async def run(self) -> None:
        """Probe for ever."""
        while True:
            await asyncio.gather(asyncio.sleep(_PERIOD_S), self.probe_all())

    async def probe_all(self) -> None:
        """One round."""
        known = self.config.snapshot.backends
        for name in self.said.keys() - known.keys():
            del self.said[name]
        await asyncio.gather(*(self._probe(name, backend) for name, backend in known.items()))

    async def _probe(self, name: str, backend: Backend) -> None:
        await asyncio.sleep(self.uniform(0.0, _JITTER_S))
        async with self._turns:
            probe = await self.client.probe(backend)
        self.backends.probed(name, answered=probe.is_alive)
        was, self.said[name] = self.said.get(name), probe.said
        if not probe.is_alive and was != probe.said:
            _LOG.event(LogEvent.PROBE_FAILED, backend=name, cause=probe.said)
