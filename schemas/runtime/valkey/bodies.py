"""Large bodies on the bus: put there before their record is produced, fetched by who calls a backend.

The bus is a shortcut. What is not there, because there was no room or it was evicted, stands in the log.
"""

from __future__ import annotations

import asyncio
from typing import Final

from schemas.claim_check import KEPT_AFTER_DEADLINE_MS
from schemas.events import RequestAccepted
from schemas.log_events import LogEvent
from schemas.runtime.process.event_log import EventLog
from schemas.runtime.valkey.bus import Bus
from schemas.runtime.valkey.store import StoreError, StoreUnavailable

_LOG = EventLog(__name__)

_BYTES_PER_ORG_MAX: Final = 16 * 1024 * 1024
_BYTES_MAX: Final = 64 * 1024 * 1024
_PUT_WITHIN_S: Final = 0.5
"""A client waits for it; a bus that is slower is done without."""


def body_key(request_id: str) -> str:
    """Where the bus has the body of a request."""
    return f"body:{request_id}"


class Bodies:
    """The bodies on the bus. Nothing here raises: a bus that is away has no body."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus

    async def put(self, request: RequestAccepted, now_ms: int) -> bool:
        """Keep the payload until a minute after the deadline; False when there is no room."""
        ttl_ms = max(0, request.deadline_ms - now_ms) + KEPT_AFTER_DEADLINE_MS
        name, org, payload = body_key(request.request_id), request.org, request.payload
        most = (_BYTES_PER_ORG_MAX, _BYTES_MAX)
        try:
            async with asyncio.timeout(_PUT_WITHIN_S):
                if not await self._bus.count(name, org, len(payload), ttl_ms, *most):
                    return False
                await self._bus.store.call("SET", name, payload, "PX", ttl_ms)
                return True
        except (StoreUnavailable, StoreError, TimeoutError) as error:
            _LOG.event(
                LogEvent.BODY_NOT_ON_BUS, step="put", request_id=request.request_id, error=error
            )
            return False

    async def get(self, request_id: str) -> bytes | None:
        """The payload, if the bus has it."""
        try:
            found: bytes | None = await self._bus.store.call("GET", body_key(request_id))
        except (StoreUnavailable, StoreError) as error:
            _LOG.event(LogEvent.BODY_NOT_ON_BUS, step="get", request_id=request_id, error=error)
            return None
        return found

    async def drop(self, request_id: str) -> None:
        """Give its room back; a body that is not dropped expires."""
        try:
            name = body_key(request_id)
            await asyncio.gather(self._bus.store.call("UNLINK", name), self._bus.forget(name))
        except (StoreUnavailable, StoreError) as error:
            _LOG.event(LogEvent.BODY_NOT_ON_BUS, step="drop", request_id=request_id, error=error)
