"""A stack whose ledger's servers obey DEBUG, which they are started without: it breaks what only tests break."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Final

from tests.chaos.rig import Rig
from tests.chaos.stores import ledger_servers, metas
from tests.support.harness.store_faults import StoreFaults
from tests.support.harness.store_servers import OfStack

_WHOLE_WITHIN_S: Final = 60.0
_LOOK_S: Final = 0.2


async def allow_debugging(rig: Rig) -> None:
    """Start the servers again with that; every shard is whole when it returns. Raises ``TimeoutError``."""
    servers = OfStack(rig.stack)
    shards = metas(ledger_servers(rig.state_dir))
    async with servers.away(*servers.nodes):
        for name in servers.nodes:
            with (servers.folder(name) / "valkey.conf").open("a") as settings:
                settings.write("enable-debug-command local\n")
    await StoreFaults(servers).until_served()
    async with asyncio.timeout(_WHOLE_WITHIN_S):
        while not _are_whole(rig, shards.keys()):  # noqa: ASYNC110  # other processes
            await asyncio.sleep(_LOOK_S)


def _are_whole(rig: Rig, shards: Collection[int]) -> bool:
    found = metas(ledger_servers(rig.state_dir))
    return found.keys() == set(shards) and all(
        meta.epoch > 1 and meta.is_ready and meta.is_complete for meta in found.values()
    )
