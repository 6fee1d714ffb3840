"""What a version before this one left in the store: its keys have no shard, and nothing reads them any more. Once
every shard is whole they are removed."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from typing import Final

from schemas.ledger.keys import META
from schemas.runtime.valkey.store import Store

__all__ = ["forget_old_layout", "is_of_old_layout"]

_OLD: Final = re.compile(
    rb"(?:\{[^}|]*\}:.*|meta|exp|inf|fin|forgot|ended:\d+|cfg:\w+|dlq:retried:.*)", re.DOTALL
)
_KEYS_PER_STEP: Final = 1_000


def is_of_old_layout(key: bytes) -> bool:
    """Whether a version before this one wrote the key. Pure."""
    return _OLD.fullmatch(key) is not None


async def forget_old_layout(store: Store) -> int:
    """Remove its keys, its `meta` at last, so that whoever is killed meanwhile begins again; how many."""
    if not await store.call("EXISTS", META):
        return 0
    cursor, gone = b"0", 0
    while True:
        cursor, found = await store.call("SCAN", cursor, "COUNT", str(_KEYS_PER_STEP))
        gone += await _unlink(store, [key for key in found if key != META.encode()])
        if cursor == b"0":
            await store.call("UNLINK", META)
            return gone + 1


async def _unlink(store: Store, keys: Sequence[bytes]) -> int:
    old = [key for key in keys if is_of_old_layout(key)]
    await asyncio.gather(*(store.call("UNLINK", key) for key in old))
    return len(old)
