"""A shard with a past: outcomes that were booked, copies and corrections among them, snapshots of some tables
at some times, and the log in memory that all of it can be made of again."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from accounting.booking import entry_of
from accounting.earlier import copies_among
from accounting.rebuild.admissions import OpenAdmissions, read_admissions
from accounting.rebuild.build import Parts, ShardBuild
from accounting.rebuild.completion import complete
from accounting.rebuild.folders import Folders
from accounting.rebuild.old_layout import OldLayout
from accounting.table_records import snapshots_of
from schemas.events import (
    AttemptAdjusted,
    Booking,
    RecordRef,
    RequestFinished,
    ShardCheckpoint,
)
from schemas.failures import Transient
from schemas.ids import uuid7
from schemas.ledger import documents
from schemas.ledger.calls import Call
from schemas.outgoing import adjustment_record, checkpoint_record, outcome_record, table_record
from schemas.runtime.ledger.client import LedgerClient
from schemas.runtime.valkey.store import Store
from schemas.snapshots import parts_of
from schemas.times import FULL
from schemas.topics import OUTCOMES
from schemas.usage import hour_of
from tests.support.events import attempt, finished
from tests.support.log_in_memory import LogInMemory
from tests.support.one_shard import ONE_SHARD, SHARD

ORGS: Final = ("acme", "beta", "c-3")
_BALANCES: Final = ("b:org/nano_usd:total", "b:org/tokens:2099-01")
_STEP_MS: Final = 1_000


class Killed(Transient):
    """The process ended at this call."""


class MortalLedger(LedgerClient):
    """A ledger client whose process is killed at one of its calls, before or after it."""

    dies_at = -1
    calls = 0

    async def run(self, call: Call[Any]) -> Any:
        """The answer, until the end."""
        if self.calls == self.dies_at:
            raise Killed
        self.calls += 1
        return await super().run(call)


class FoundAgain:
    """Looks earlier records up in the log in memory."""

    def __init__(self, log: LogInMemory) -> None:
        self._log = log

    async def copies(self, partition: int, rows: Any) -> set[int]:
        """As the log tells."""
        read = [r for at, rs in self._log.partitions.items() if at.topic == OUTCOMES for r in rs]
        return copies_among(rows, (r for r in read if r.partition == partition))


class Produces:
    """Takes what a rebuild produces."""

    def __init__(self, log: LogInMemory, now_ms: int) -> None:
        self._log, self._now_ms = log, now_ms

    async def deliver(self, records: Any, deadline_s: float) -> None:
        """Append it."""
        for record in records:
            self._log.append(record, SHARD, self._now_ms)


@dataclass
class RebuildScene:
    """One shard on a real store."""

    store: Store
    now_ms: int
    chance: random.Random
    log: LogInMemory = field(default_factory=LogInMemory)
    ended: list[RequestFinished] = field(default_factory=list)
    unpublished: set[tuple[str, str]] = field(default_factory=set)

    @property
    def ledger(self) -> LedgerClient:
        """The ledger as its users have it."""
        return LedgerClient(self.store, ONE_SHARD)

    async def live(self, steps: int) -> None:
        """Outcomes until now, a second apart."""
        for number in range(steps):
            at_ms = self.now_ms - (steps - number) * _STEP_MS
            await self.book(self._event(number, at_ms), at_ms)
            if self.chance.random() < 0.4:
                await self.publish(self.chance.random() < 0.3, at_ms)

    def _event(self, number: int, at_ms: int) -> RequestFinished | AttemptAdjusted:
        dice = self.chance.random()
        if self.ended and dice < 0.2:
            return self.chance.choice(self.ended[-10:])
        spent = self.chance.randrange(1, 1_000)
        one = attempt(1, input_tokens=spent, cost_nano_usd=spent, finished_at_ms=at_ms)
        bookings = [Booking(key=key, unit="tokens", amount=spent) for key in _BALANCES]
        if self.ended and dice < 0.3:
            before = self.chance.choice(self.ended[-10:])
            return AttemptAdjusted(
                request_id=before.request_id,
                org=before.org,
                key_id=before.key_id,
                route=before.route,
                model=before.model,
                revision=self.chance.randrange(1, 3),
                delta=one,
                bookings=bookings,
                reason="late_finish",
                adjusted_at_ms=at_ms,
                deadline_ms=before.deadline_ms,
                parents=[],
            )
        event = msgspec.structs.replace(
            finished([one] if dice < 0.9 else [], bookings if dice < 0.9 else []),
            request_id=uuid7(at_ms - 500, number.to_bytes(10)),
            org=self.chance.choice(ORGS),
            accepted_at_ms=at_ms - 500,
            finished_at_ms=at_ms,
            deadline_ms=at_ms + 60_000,
        )
        self.ended.append(event)
        return event

    async def book(self, event: RequestFinished | AttemptAdjusted, at_ms: int) -> Any:
        """Append it, and book it as accounting does; its fate."""
        is_adjusted = isinstance(event, AttemptAdjusted)
        record = (
            adjustment_record(event, {"request_id": event.request_id.encode()})
            if isinstance(event, AttemptAdjusted)
            else outcome_record(event, "dispatcher")
        )
        offset = self.log.append(record, SHARD, at_ms)
        place = RecordRef(topic=OUTCOMES, partition=SHARD, offset=offset)
        row = entry_of(event, place, at_ms).row
        booked = await self.ledger.book(documents.Book(org=event.org, partition=SHARD, rows=(row,)))
        if booked.rows == ("BOOKED",):
            delta = [event.delta] if is_adjusted else event.attempts  # type: ignore[union-attr]
            self.unpublished |= {(event.org, b.key) for b in event.bookings}
            self.unpublished |= {(event.org, hour_of(a.finished_at_ms)) for a in delta}
        return booked.rows

    async def publish(self, all_of_it: bool, at_ms: int) -> None:
        """Snapshots of some changed tables, or of all and a checkpoint."""
        for org, table in sorted(self.unpublished):
            if all_of_it or self.chance.random() < 0.5:
                await self._publish(org, table)
        if all_of_it:
            outcomes = [
                r for at, rs in self.log.partitions.items() if at.topic == OUTCOMES for r in rs
            ]
            checkpoint = ShardCheckpoint(
                shard=SHARD,
                offset=outcomes[-1].offset,
                appended_at_ms=outcomes[-1].timestamp,
                epoch=1,
                taken_at_ms=at_ms,
            )
            self.log.append(checkpoint_record(checkpoint), SHARD, at_ms)

    async def _publish(self, org: str, table: str) -> None:
        is_balance = table.startswith("b:")
        document = documents.TakeSnapshot(
            org=org,
            hours=() if is_balance else (table,),
            balances=(table,) if is_balance else (),
        )
        read = await self.ledger.snapshot(document)
        for snapshot in snapshots_of(org, SHARD, read, -1, self.now_ms):
            for part in parts_of(snapshot):
                self.log.append(table_record(part), SHARD, self.now_ms)
        self.unpublished.discard((org, table))

    def build(self, epoch: int, ledger: LedgerClient | None = None) -> ShardBuild:
        """A rebuild of it that has not begun."""
        parts = Parts(
            ledger or self.ledger,
            Produces(self.log, self.now_ms),  # type: ignore[arg-type]
            Folders(FoundAgain(self.log)),  # type: ignore[arg-type]
            FULL,
            OldLayout(self.store, self.ledger),
        )
        return ShardBuild(SHARD, epoch, f"{epoch}:token", "empty", parts)

    async def rebuild(self, build: ShardBuild, *, until_open: bool = False) -> None:
        """All of it, as its owner does it, or all that is done before it opens."""
        await build.begin()
        await build.salvage()
        await build.unlink()
        await build.read_snapshots(self.log, 1)
        await build.fold_outcomes(self.log)
        found = OpenAdmissions(ONE_SHARD, {SHARD: build.fold.seen}, self.now_ms)
        await read_admissions(self.log, found, FULL)
        await build.restore(*found.of(SHARD))
        await build.open()
        if not until_open:
            await self.complete(build)

    async def complete(self, build: ShardBuild) -> None:
        """What is left of a rebuild that opened the shard."""
        await complete(build, self.log, _Clock(self.now_ms))  # type: ignore[arg-type]

    async def dump(self) -> dict[str, Any]:
        """All that the store holds of the shard, but for what says when and under which name."""
        found: dict[str, Any] = {}
        for key in sorted(await self.store.call("KEYS", "{0}|*")):
            name = key.decode()
            match await self.store.call("TYPE", key):
                case b"hash":
                    flat = await self.store.call("HGETALL", key)
                    found[name] = dict(zip(flat[::2], flat[1::2], strict=True))
                case b"zset":
                    found[name] = await self.store.call("ZRANGE", key, "0", "-1", "WITHSCORES")
                case b"list":
                    found[name] = await self.store.call("LRANGE", key, "0", "-1")
                case _:
                    found[name] = await self.store.call("GET", key)
        meta = found["{0}|meta"]
        for volatile in (b"epoch", b"ready_ms", b"building", b"test_clock"):
            meta.pop(volatile, None)
        return found


@dataclass(frozen=True)
class _Clock:
    at_ms: int

    def now_ms(self) -> int:
        return self.at_ms
