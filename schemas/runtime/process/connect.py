"""Connecting without giving up: a process whose stores or broker are away at its start waits for them.

Its ports are open meanwhile and its readiness says what is missing, so nobody has to start it again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from aiokafka.errors import KafkaConnectionError

from schemas.log_events import LogEvent
from schemas.runtime.config.feed import ConfigFeed, ConfigUnavailable
from schemas.runtime.process.event_log import EventLog
from schemas.runtime.valkey.store import StoreError, StoreUnavailable

_LOG = EventLog(__name__)

_PAUSE_S: Final = 1.0
_AWAY: Final = (StoreUnavailable, StoreError, KafkaConnectionError)


async def connect(name: str, start: Callable[[], Awaitable[None]]) -> None:
    """Try until it works; what waiting does not mend, such as a missing topic, is raised."""
    while True:
        try:
            await start()
        except _AWAY as error:
            _LOG.event(LogEvent.NOT_REACHED, step=name, error=error)
            await asyncio.sleep(_PAUSE_S)
        else:
            return


async def read_config(config: ConfigFeed) -> None:
    """Return once the configuration was read, from the log or from the copy on disk."""
    try:
        await config.start()
    except ConfigUnavailable as error:
        # The feed keeps trying by itself.
        _LOG.event(LogEvent.NOT_REACHED, step="config", error=error)
        while not config.following:  # noqa: ASYNC110  # the feed has no event for it
            await asyncio.sleep(_PAUSE_S)
