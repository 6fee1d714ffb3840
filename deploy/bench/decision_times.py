"""How long the ledger's functions take, by the store's own clock: its slow log, told to keep every command."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import redis.asyncio as redis

MOST_KEPT: Final = 20_000
_SETTINGS: Final = {"slowlog-log-slower-than": "0", "slowlog-max-len": str(MOST_KEPT)}
_ANSWERS_WITHIN_S: Final = 10.0


@asynccontextmanager
async def watched_store(url: str) -> AsyncIterator[redis.Redis]:
    """A connection to a store that notes every command while the block lasts; its own settings come back."""
    store = redis.Redis.from_url(url, socket_timeout=_ANSWERS_WITHIN_S)
    try:
        before = await store.config_get(*_SETTINGS)
        for name, value in _SETTINGS.items():
            await store.config_set(name, value)
        try:
            await store.slowlog_reset()
            yield store
        finally:
            for setting, earlier in before.items():
                await store.config_set(str(setting), earlier or "")
    finally:
        await store.aclose()


async def noted(store: redis.Redis) -> Sequence[Mapping[str, Any]]:
    """The commands that it noted, the newest `MOST_KEPT` of them."""
    entries: Sequence[Mapping[str, Any]] = await store.slowlog_get(MOST_KEPT)
    return entries


def durations_s(entries: Iterable[Mapping[str, Any]]) -> dict[str, list[float]]:
    """Durations of each function of the ledger, in seconds, by its name."""
    found: dict[str, list[float]] = {}
    for entry in entries:
        command, _, rest = bytes(entry["command"]).partition(b" ")
        if command.upper() == b"FCALL":
            name = rest.partition(b" ")[0].decode(errors="replace")
            found.setdefault(name, []).append(entry["duration"] / 1_000_000)
    return found
