"""Tells of limits that are spent to a share of theirs, before the outcomes that did it are acknowledged.

Whoever books a partition notices, and first tells the audit topic, then marks in the ledger that it did, then lets the offsets
go. Killed in between, the next owner is handed the same outcomes and tells the same event: its id is that of limit, period and percentage.
A mark keeps it from being told again; it is lost with the ledger, and then the event may be in the topic twice.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from accounting.booking import Entry
from accounting.thresholds import Watched, balance_name, threshold_event
from schemas.config_state import Snapshot
from schemas.failures import Failure
from schemas.ledger import answers, documents, keys
from schemas.log_events import LogEvent
from schemas.outgoing import audit_record
from schemas.runtime.kafka.produce import ProduceFailed, Producer
from schemas.runtime.ledger.client import LedgerClient
from schemas.runtime.ledger.store_errors import error_of
from schemas.runtime.process.clock import Clock
from schemas.runtime.process.event_log import EventLog
from schemas.runtime.process.telemetry import Metrics
from schemas.runtime.valkey.store import Store, StoreError, StoreUnavailable
from schemas.thresholds import Percents

_LOG = EventLog(__name__)

_LOOK_EVERY_S: Final = 1.0
_LOOKED_AT_ONCE: Final = 500
_WATCHED_MAX: Final = 100_000
"""Balances of one partition that are known; beyond that all are forgotten and read again when they are booked on."""
_TELL_WITHIN_S: Final = 30.0
_KEPT_MS: Final = 400 * 24 * 3_600_000
"""Longer than any period that ends, and as long as the audit topic has the event."""
_MARK: Final = """#!lua flags=allow-oom
if redis.call('HGET', KEYS[1], ARGV[1]) then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], '1')
if ARGV[2] ~= '0' then
  local due_ms = redis.call('TIME')[1] * 1000 + ARGV[2]
  redis.call('PEXPIREAT', KEYS[1], string.format('%.0f', due_ms))
end
return 1"""

Key = tuple[str, str]
"""Organization and suffix of a balance."""


@dataclass(slots=True)
class ThresholdWatch:
    """The balances of the partitions that this process books."""

    ledger: LedgerClient
    store: Store
    producer: Producer
    config: Callable[[], Snapshot]
    owned: Callable[[], frozenset[int]]
    metrics: Metrics
    clock: Clock
    percents: Percents
    _watched: defaultdict[int, dict[Key, Watched]] = field(
        default_factory=lambda: defaultdict(dict)
    )
    _next_offsets: dict[int, int] = field(default_factory=dict)
    _looked_at: int = -1
    """The configuration under which all balances were looked at."""

    def took(self, partition: int, first: int, last: int) -> None:
        """A batch of a partition is about to be booked. One that does not follow what this process booked before means that
        another did: then nothing that is known of the partition holds."""
        if self._next_offsets.get(partition) != first:
            self._watched.pop(partition, None)
        self._next_offsets[partition] = last + 1

    async def booked(
        self,
        partition: int,
        org: str,
        rows: Iterable[tuple[Entry, answers.RowFate]],
        at_ms: int,
        deadline_s: float,
    ) -> None:
        """Tell what the rows of an organization have brought about; returns when that is durable.

        Raises ``LedgerUnavailable``; every call may be repeated, for rows that are counted twice are read anew.
        """
        known, config = self._watched[partition], self.config()
        touched: dict[str, Watched] = {}
        for entry, fate in rows:
            if fate == "DUPLICATE":
                continue
            for booking in entry.row.bookings:
                watched = known.get((org, booking.key))
                if watched is None:
                    watched = known[org, booking.key] = Watched(balance_name(booking.key))
                touched[booking.key] = watched
                if watched.total is not None:
                    # What was booked before it came here stands in no sum of this process.
                    watched.total = None if fate == "SEEN" else watched.total + booking.amount
        for watched in touched.values():
            watched.follow(org, config, self.percents)
        try:
            await self._settle(org, touched, at_ms, deadline_s)
        except BaseException:
            for watched in touched.values():
                watched.total = None
            raise
        if len(known) > _WATCHED_MAX:
            known.clear()

    async def run(self) -> None:
        """Look at all balances again, for ever, when the configuration has changed: a limit may have been lowered below what
        was spent, and then nothing more is booked on it."""
        while True:
            await asyncio.sleep(_LOOK_EVERY_S)
            try:
                await self._look()
            except (Failure, ProduceFailed, TimeoutError) as error:
                _LOG.event(LogEvent.ROUND_WAITS, step="thresholds", error=error)

    async def _look(self) -> None:
        config = self.config()
        if config.offset == self._looked_at:
            return
        owned = self.owned()
        for partition in [each for each in self._watched if each not in owned]:
            del self._watched[partition]
        for known in list(self._watched.values()):
            everything = list(known.items())
            for first in range(0, len(everything), _LOOKED_AT_ONCE):
                await self._look_at(everything[first : first + _LOOKED_AT_ONCE], config)
                await asyncio.sleep(0)
        self._looked_at = config.offset

    async def _look_at(self, some: Sequence[tuple[Key, Watched]], config: Snapshot) -> None:
        per_org: defaultdict[str, dict[str, Watched]] = defaultdict(dict)
        for (org, suffix), watched in some:
            watched.follow(org, config, self.percents)
            if watched.is_unread or watched.is_due:
                per_org[org][suffix] = watched
        deadline_s = self.clock.monotonic_s() + _TELL_WITHIN_S
        for org, wanted in per_org.items():
            await self._settle(org, wanted, self.clock.now_ms(), deadline_s)

    async def _settle(
        self, org: str, touched: dict[str, Watched], at_ms: int, deadline_s: float
    ) -> None:
        """Read what is not known of them, and tell what is due."""
        unread = {suffix: watched for suffix, watched in touched.items() if watched.is_unread}
        if unread:
            asked = documents.TakeSnapshot(org=org, balances=tuple(unread))
            found = await self.ledger.snapshot(asked)
            for suffix, watched in unread.items():
                watched.total = found.totals.get(suffix, {}).get("settled", 0)
        for suffix, watched in touched.items():
            if watched.is_due:
                await self._tell(org, suffix, watched, at_ms, deadline_s)

    async def _tell(
        self, org: str, suffix: str, watched: Watched, at_ms: int, deadline_s: float
    ) -> None:
        key = keys.of_org(self.ledger.shard_of(org), org, keys.told_suffix(suffix))
        watched.remember(_marks(await self._asked("HGETALL", key)))
        reached = watched.untold()
        if not reached or watched.limit is None:
            return
        amount = watched.limit.amount
        events = [threshold_event(org, suffix, watched, percent, at_ms) for percent in reached]
        await self.producer.deliver(
            [audit_record(event, "accounting") for event in events], deadline_s
        )
        kept_ms = _KEPT_MS if watched.name.kind != "total" else 0
        for percent in reached:
            if await self._asked("EVAL", _MARK, 1, key, f"{percent}:{amount}", kept_ms):
                self.metrics.count("tallygate_thresholds_total", watched.name.type, str(percent))
        watched.remember((percent, amount) for percent in reached)

    async def _asked(self, *command: str | int) -> Any:
        try:
            return await self.store.call(*command)
        except (StoreUnavailable, StoreError) as error:
            raise error_of(error) from error


def _marks(fields: Sequence[bytes]) -> Iterable[tuple[int, int]]:
    """What was told: percentage and amount of each."""
    for each in fields[::2]:
        percent, _, amount = each.decode().partition(":")
        if percent.isdecimal() and amount.isdecimal():
            yield int(percent), int(amount)
