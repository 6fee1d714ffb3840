"""Asks the ledger's store what health needs of it. Of a cluster those that answer are believed for themselves."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from schemas.ledger.keys import BACKEND_HEALTH, BROKER_DISK, CONFIG_APPLIED, META, of_shard
from schemas.ledger.shards import Shards
from schemas.runtime.valkey.store import Store, StoreUnavailable, text_pairs


@dataclass(frozen=True, slots=True)
class LedgerTold:
    """What the store said; ``None`` for what a server has that is away."""

    reports: tuple[dict[str, str], dict[str, str], dict[str, str]] | None
    """Configurations that were applied, health of backends, disks of brokers."""
    memories: Sequence[str]
    """``INFO memory`` of each server."""
    metas: Sequence[Sequence[bytes | None] | None]
    """``ready``, ``why`` and ``epoch`` of each shard."""


async def ask_ledger(store: Store, shards: Shards | None) -> LedgerTold:
    """Ask everything at once. Raises ``StoreUnavailable`` when no server answers."""
    reports, infos, *metas = await asyncio.gather(
        _or_none(asyncio.gather(*(store.call("HGETALL", name) for name in _REPORTS))),
        store.call_each("INFO", "memory"),
        *(_or_none(store.call("HMGET", of_shard(n, META), *_TOLD)) for n in shards or ()),
    )
    applied, health, disks = map(text_pairs, reports or (None,) * len(_REPORTS))
    return LedgerTold(
        None if reports is None else (applied, health, disks),
        [info.decode() for info in infos if isinstance(info, bytes)],
        metas,
    )


_TOLD = ("ready", "why", "epoch")
_REPORTS = (CONFIG_APPLIED, BACKEND_HEALTH, BROKER_DISK)


async def _or_none(asked: asyncio.Future[Any]) -> Any:
    try:
        return await asked
    except StoreUnavailable:
        return None
