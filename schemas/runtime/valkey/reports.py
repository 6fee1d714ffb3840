"""Writes what processes tell of themselves into the ledger store, also while that is full.

A plain write is refused at maxmemory, and then everybody would look dead just when somebody looks.
"""

from __future__ import annotations

from typing import Final

from schemas.runtime.valkey.store import Argument, Store

_WRITE: Final = "#!lua flags=allow-oom\nreturn redis.call('HSET', KEYS[1], unpack(ARGV))"


async def report(store: Store, name: str, *lines: Argument) -> None:
    """Set fields of a hash: names and values in turn. Raises what ``Store`` raises."""
    await store.call("EVAL", _WRITE, 1, name, *lines)
