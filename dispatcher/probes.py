"""Asks every backend whether it lives, about every five seconds.

Drained backends are asked too, so that an operator sees whether one can be restored.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from dispatcher.backends import Backends
from dispatcher.upstreams import Upstreams
from schemas.entities import Backend
from schemas.runtime.config import ConfigFeed

_PERIOD_S = 5.0
_JITTER_S = 1.0


@dataclass(slots=True)
class Prober:
    """Probes in rounds; inside a round each backend has its own moment."""

    config: ConfigFeed
    backends: Backends
    upstreams: Upstreams
    uniform: Callable[[float, float], float]

    async def run(self) -> None:
        """Probe for ever."""
        while True:
            known = self.config.snapshot.backends
            await asyncio.gather(
                asyncio.sleep(_PERIOD_S),
                *(self._probe(name, backend) for name, backend in known.items()),
            )

    async def _probe(self, name: str, backend: Backend) -> None:
        await asyncio.sleep(self.uniform(0.0, _JITTER_S))
        self.backends.probed(name, answered=await self.upstreams.answers(backend))
