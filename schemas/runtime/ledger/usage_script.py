"""Reads usage hours in the ledger: the script that tells some cells of a table, and changes nothing.

No function of the library, as ``limits_script``. It tells a bounded number of cells at a time, because an hour of a large
organization is megabytes, and while a store hands them out it answers nobody. A shard that is closed, behind the epoch that
the caller knows to be announced, or to which a rebuild has not brought its usage hours back, tells nothing.
"""

from __future__ import annotations

from typing import Any, Final

from schemas.ledger import keys
from schemas.ledger.errors import LedgerNotReady
from schemas.ledger.usage_cells import UsageCells

SCRIPT: Final = """
local meta = redis.call('HMGET', KEYS[1], 'epoch', 'ready', 'complete')
if meta[2] ~= '1' or meta[3] == '0' or tonumber(ARGV[1]) > tonumber(meta[1]) then return 'NOT_READY' end
return redis.call('HSCAN', KEYS[2], ARGV[2], 'COUNT', ARGV[3])
"""


def command_of(
    shard: int, org: str, hour: str, epoch: int, cursor: int, count: int
) -> tuple[str | int, ...]:
    """The command that reads about so many of them."""
    table = keys.of_org(shard, org, keys.usage_suffix(hour))
    return ("EVAL", SCRIPT, 2, keys.of_shard(shard, keys.META), table, epoch, cursor, count)


def cells_in(reply: Any) -> UsageCells:
    """What the shard said. Raises ``LedgerNotReady`` while it tells nothing."""
    if isinstance(reply, bytes):
        raise LedgerNotReady("the shard tells no usage now")
    cursor, flat = reply
    return UsageCells(
        int(cursor), {flat[i].decode(): int(flat[i + 1]) for i in range(0, len(flat), 2)}
    )
