"""Reads limits in the ledger: the script that tells what is used of each, at one instant, and changes nothing.

No function of the library, because nothing of the ledger depends on it (as ``signature_script``). A shard that is closed,
or behind the epoch that the caller knows to be announced, tells nothing. Expired leases are not counted, though they are
still there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from schemas.ledger import keys
from schemas.ledger.documents import Balance, Lease, Rate
from schemas.ledger.errors import LedgerNotReady
from schemas.ledger.limit_readings import BalanceReading, LimitReadings

SCRIPT: Final = """
local meta = redis.call('HMGET', KEYS[1], 'epoch', 'ready')
if meta[2] ~= '1' or tonumber(ARGV[1]) > tonumber(meta[1]) then return 'NOT_READY' end
local time = redis.call('TIME')
local now_ms = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000))
local rates, leases = 1 + ARGV[2], 1 + ARGV[2] + ARGV[3]
local found = {time[1], time[2]}
for i = 2, #KEYS do
  if i <= rates then
    found[#found + 1] = redis.call('GET', KEYS[i]) or ''
  elseif i <= leases then
    found[#found + 1] = redis.call('ZCOUNT', KEYS[i], '(' .. now_ms, '+inf')
  else
    found[#found + 1] = redis.call('HMGET', KEYS[i], 'settled', 'reserved', 'spare')
  end
end
return found
"""


def command_of(
    shard: int,
    org: str,
    rates: Sequence[Rate],
    leases: Sequence[Lease],
    balances: Sequence[Balance],
    epoch: int,
) -> tuple[str | int, ...]:
    """The command that reads them."""
    suffixes = (
        *(rate.key for rate in rates),
        *(lease.key for lease in leases),
        *(balance.key for balance in balances),
    )
    names = (keys.of_shard(shard, keys.META), *(keys.of_org(shard, org, key) for key in suffixes))
    return ("EVAL", SCRIPT, len(names), *names, epoch, len(rates), len(leases))


def readings_in(reply: Any, rates: int, leases: int) -> LimitReadings:
    """What the shard said of so many rates, leases and then balances. Raises ``LedgerNotReady`` while it tells nothing."""
    if isinstance(reply, bytes):
        raise LedgerNotReady("the shard decides nothing now")
    seconds, micros, *found = reply
    return LimitReadings(
        int(seconds) * 1_000_000 + int(micros),
        [_bucket(each) for each in found[:rates]],
        found[rates : rates + leases],
        [_balance(each) for each in found[rates + leases :]],
    )


def _bucket(stored: bytes) -> tuple[int, int]:
    until_us, _, part = stored.partition(b":")
    return (int(until_us), int(part)) if stored else (0, 0)


def _balance(fields: Sequence[bytes | None]) -> BalanceReading:
    settled, reserved, spare = (int(each or 0) for each in fields)
    return BalanceReading(settled, reserved + spare)
