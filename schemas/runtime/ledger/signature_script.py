"""Remembers signatures in the ledger: the script by which a shard takes each of them once.

No function of the library, because nothing of the ledger depends on it. A shard that is closed, or behind the epoch that
the caller knows to be announced, decides nothing. One that was made again from the log has forgotten which were used
before it opened, so it takes none that is older than that.
"""

from __future__ import annotations

from typing import Any, Final

from schemas.ledger import keys
from schemas.ledger.errors import LedgerNotReady
from schemas.ledger.signatures import SignatureUse

SCRIPT: Final = """
local meta = redis.call('HMGET', KEYS[1], 'epoch', 'ready', 'ready_ms')
if meta[2] ~= '1' or tonumber(ARGV[3]) > tonumber(meta[1]) then return 'NOT_READY' end
if tonumber(ARGV[1]) < tonumber(meta[3] or 0) then return 'EARLIER' end
if redis.call('SET', KEYS[2], '1', 'NX', 'PX', ARGV[2]) then return 'FIRST' end
return 'AGAIN'
"""


def command_of(
    shard: int, org: str, signature: str, signed_at_ms: int, kept_ms: int, epoch: int
) -> tuple[str | int, ...]:
    """The command that uses a signature, which is remembered for ``kept_ms``."""
    names = (keys.of_shard(shard, keys.META), keys.signature(shard, org, signature))
    return ("EVAL", SCRIPT, len(names), *names, signed_at_ms, kept_ms, epoch)


def use_in(reply: Any) -> SignatureUse:
    """What the shard said. Raises ``LedgerNotReady`` while it decides nothing."""
    text = reply.decode()
    if text == "NOT_READY":
        raise LedgerNotReady("the shard decides nothing now")
    return SignatureUse(text)
