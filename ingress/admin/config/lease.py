"""The right to write the configuration: one holder at a time, over all admin processes.

It lapses by itself, so a writer that dies blocks the others for ten seconds and not for ever. A
writer bounds its own steps well below that.
"""

from __future__ import annotations

import asyncio

from schemas.ledger.keys import CONFIG_LEASE
from schemas.log_events import LogEvent
from schemas.runtime.process.event_log import EventLog
from schemas.runtime.valkey.store import Store, StoreError, StoreUnavailable

_LOG = EventLog(__name__)

_LEASE_MS = 10_000
_POLL_S = 0.02

# Deletes the lease only while it is still ours: it may have lapsed and gone to somebody else.
_RELEASE = """
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0
"""


async def acquire(store: Store, token: str, deadline_s: float) -> bool:
    """Whether the lease is ours within ``deadline_s`` seconds. Raises ``StoreUnavailable``."""
    loop = asyncio.get_running_loop()
    give_up_s = loop.time() + deadline_s
    while await store.call("SET", CONFIG_LEASE, token, "NX", "PX", _LEASE_MS) is None:
        if loop.time() >= give_up_s:
            return False
        await asyncio.sleep(_POLL_S)
    return True


async def release(store: Store, token: str) -> None:
    """Give the lease back; when the store is away it lapses by itself."""
    try:
        await store.call("EVAL", _RELEASE, 1, CONFIG_LEASE, token)
    except (StoreUnavailable, StoreError) as error:
        _LOG.event(LogEvent.LEASE_NOT_RELEASED, error=error)
