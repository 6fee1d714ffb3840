"""Rebuilds the shards whose partitions this process owns, whenever one of them is not what the log says.

Once a second it reads the `meta` of each; what it finds there decides, with what the log says, and nothing that
is remembered here: a store that was emptied, restored or replaced, a rebuild that somebody else left unfinished
and one that an operator asks for are all the same case.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Final

import msgspec

from accounting.booking import BookedThrough, Place
from accounting.rebuild.admissions import OpenAdmissions, read_admissions
from accounting.rebuild.build import Overtaken, Parts, ShardBuild
from accounting.rebuild.causes import FIRST_EPOCH, OTHER_LAYOUT, ShardMeta, cause_of
from accounting.rebuild.completion import complete
from accounting.rebuild.log import open_log
from accounting.rebuild.together import Together
from accounting.rebuild.trial import try_rebuild
from schemas.config_signing import Signer, signed
from schemas.failures import Transient
from schemas.ledger import keys, rebuild_calls
from schemas.log_events import LogEvent
from schemas.outgoing import epoch_record
from schemas.readiness import DEGRADED
from schemas.runtime.config.feed import ConfigFeed
from schemas.runtime.process.clock import Clock, random_bytes
from schemas.runtime.process.event_log import EventLog
from schemas.runtime.process.telemetry import Metrics
from schemas.runtime.valkey.store import Store, text_pairs

__all__ = ["ShardOwner"]

_LOG = EventLog(__name__)

_PERIOD_S: Final = 1.0
_SUSPENDED_S: Final = 5.0
"""A process that did not run for this long may have lost its partitions without knowing it."""
_AWAITS_GROUP_S: Final = 12.0
"""Within this time the group tells a member that it is none any more."""
_PRODUCE_WITHIN_S: Final = 10.0
_AGAIN_S: Final = 2.0
_DEFECT_S: Final = 30.0
_READ_AT_ONCE: Final = 4
"""Shards; while some wait for the broker, or for their turn to be folded, others are. Each has some fetches in memory."""


@dataclass(slots=True)
class ShardOwner:
    """Runs beside the books."""

    parts: Parts
    brokers: str
    store: Store
    config: ConfigFeed
    owned: Callable[[], frozenset[int]]
    """Partitions of outcomes that this process books now."""
    clock: Clock
    metrics: Metrics
    booked: BookedThrough
    compare: Callable[[Collection[int]], Awaitable[None]]
    """Closes those of the shards that are of another log. Raises ``Transient``."""
    signer: Signer | None = None
    """Whoever signs the epochs that are announced."""
    builds: dict[int, ShardBuild] = field(default_factory=dict)
    """Rebuilds of this process that are not complete, by shard."""
    completing: dict[int, asyncio.Task[None]] = field(default_factory=dict)
    _reading: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_READ_AT_ONCE))
    _is_old_gone: bool = False

    async def run(self) -> None:
        """Look after the shards, for ever."""
        try:
            await self._run()
        finally:
            await self.parts.folders.end()

    async def _run(self) -> None:
        while True:
            began_s = self.clock.monotonic_s()
            await asyncio.sleep(_PERIOD_S)
            if self.clock.monotonic_s() - began_s > _SUSPENDED_S:
                await asyncio.sleep(_AWAITS_GROUP_S)
                continue
            try:
                await self.look()
            except Overtaken as error:
                _LOG.event(LogEvent.REBUILD_OVERTAKEN, error=error)
                await asyncio.sleep(_AWAITS_GROUP_S)
            except Transient as error:
                _LOG.event(LogEvent.ROUND_WAITS, step="rebuild", error=error)
            except Exception as defect:  # noqa: BLE001  # total: a shard stays closed meanwhile, and is told
                _LOG.event(LogEvent.ROUND_DEFECT, step="rebuild", defect=defect)

    async def look(self) -> None:
        """Rebuild what has to be. Raises ``Transient``."""
        owned = self.owned()
        self._drop_lost(owned)
        if not self.builds:
            await self.parts.folders.end()
        causes, metas = await self._causes(owned)
        for shard, meta in metas.items():
            if shard not in causes and "trial" in meta.fields:
                await self._try(shard, meta.fields["trial"])
        if not causes:
            await self._forget_old_layout()
            return
        # A store may have been lost together with its log; what it remembers of that is asked first.
        await self.compare(causes)
        causes, metas = await self._causes(causes)
        if causes:
            await self.rebuild(causes, metas)

    async def _forget_old_layout(self) -> None:
        """Once every shard is whole, nobody can need what a version before this one left."""
        if self._is_old_gone:
            return
        metas = [await self._meta(shard) for shard in self.parts.ledger.shards]
        if all(meta.fields.get("complete") == "1" for meta in metas):
            # Once in a process: a store that refuses it keeps keys that nobody reads.
            self._is_old_gone = True
            await self.parts.old.forget()

    async def _causes(self, shards: Collection[int]) -> tuple[dict[int, str], dict[int, ShardMeta]]:
        causes: dict[int, str] = {}
        together = Together()
        metas = await together.each(sorted(shards), self._meta)
        self._tell(together)
        for shard, meta in metas.items():
            announced = self.config.snapshot.ledger_epochs.get(shard, 0)
            build = self.builds.get(shard)
            cause = cause_of(meta, announced, build.building if build else None)
            if cause is not None:
                causes[shard] = cause
        return causes, metas

    async def _try(self, shard: int, trial: str) -> None:
        """Say what a rebuild would change; an operator asked."""
        async with open_log(self.brokers) as log:
            finding = await try_rebuild(shard, self.parts, log)
        text = msgspec.json.encode(finding).decode()
        await self.parts.ledger.run(rebuild_calls.found(shard, trial, text))

    async def _meta(self, shard: int) -> ShardMeta:
        # A connection may outlive that its server was a replica meanwhile.
        await self.parts.ledger.meet(shard)
        found = await self.store.call("HGETALL", keys.of_shard(shard, keys.META))
        return ShardMeta(text_pairs(found))

    async def rebuild(self, causes: Mapping[int, str], metas: Mapping[int, ShardMeta]) -> None:
        """Rebuild these shards together: those that nothing came between are open when it returns.

        What befalls one costs no other. Raises ``Overtaken`` when another process took one of them.
        """
        together = Together()
        try:
            await self._rebuild(causes, metas, together)
        finally:
            for shard in causes:
                if shard in self.builds and not self.builds[shard].is_open:
                    del self.builds[shard]
        self._tell(together)
        for error in together.failed.values():
            if isinstance(error, Overtaken):
                raise error

    async def _rebuild(
        self, causes: Mapping[int, str], metas: Mapping[int, ShardMeta], together: Together
    ) -> None:
        began_s = self.clock.monotonic_s()
        builds = await together.each(causes, lambda n: self._begin(n, causes[n], metas[n]))
        folded = await together.each(builds, lambda n: self._fold(builds[n]))
        if not folded:
            return
        ended = {shard: builds[shard].fold.seen for shard in folded}
        found = OpenAdmissions(self.parts.ledger.shards, ended, self.clock.now_ms())
        async with open_log(self.brokers) as log:
            await read_admissions(log, found, self.parts.times)

        async def restore(shard: int) -> None:
            await builds[shard].restore(*found.of(shard))
            await self._open(builds[shard], began_s)

        await together.each(folded, restore)

    async def _fold(self, build: ShardBuild) -> None:
        async with self._reading, open_log(self.brokers) as log:
            await build.salvage()
            await build.unlink()
            await build.read_snapshots(log, self.parts.ledger.shards.count)
            await build.fold_outcomes(log)

    async def _open(self, build: ShardBuild, began_s: float) -> None:
        await build.open()
        if build.reached >= 0:
            # So that a checkpoint is written also where no other outcome comes.
            self.booked[build.shard] = Place(build.reached, build.clock_ms)
        self._note_ready(build, self.clock.monotonic_s() - began_s)

    def _tell(self, together: Together) -> None:
        for shard, error in together.failed.items():
            if isinstance(error, Overtaken):
                continue
            if isinstance(error, Transient):
                _LOG.event(LogEvent.ROUND_WAITS, step="rebuild", partition=shard, error=error)
            else:
                _LOG.event(LogEvent.ROUND_DEFECT, step="rebuild", partition=shard, defect=error)

    async def _begin(self, shard: int, cause: str, meta: ShardMeta) -> ShardBuild:
        # Nobody announced the first life, which every shard that is made again has had.
        announced = self.config.snapshot.ledger_epochs.get(shard, FIRST_EPOCH)
        epoch = 1 + max(meta.epoch, announced)
        if not meta.fields and await self.parts.old.exists():
            cause = OTHER_LAYOUT
        _LOG.event(LogEvent.REBUILD_BEGUN, partition=shard, cause=cause, count=epoch)
        # In the log first: whoever still talks to an older copy of the store learns that it is one.
        deadline_s = self.clock.monotonic_s() + _PRODUCE_WITHIN_S
        record = signed(epoch_record(shard, epoch, self.clock.now_ms()), self.signer)
        await self.parts.producer.deliver([record], deadline_s)
        if shard in self.completing:
            self.completing.pop(shard).cancel()
        build = ShardBuild(shard, epoch, f"{epoch}:{random_bytes(8).hex()}", cause, self.parts)
        self.builds[shard] = build
        await build.begin()
        return build

    def _note_ready(self, build: ShardBuild, age_s: float) -> None:
        self.metrics.count("tallygate_ledger_rebuilds_total", build.cause)
        self.metrics.observe("tallygate_ledger_rebuild_seconds", age_s)
        _LOG.event(
            LogEvent.REBUILD_READY,
            partition=build.shard,
            cause=build.cause,
            count=build.fold.rows,
            age_s=round(age_s, 3),
        )
        self.completing[build.shard] = asyncio.create_task(self._complete(build))

    async def _complete(self, build: ShardBuild) -> None:
        while True:
            try:
                async with open_log(self.brokers) as log:
                    await complete(build, log, self.clock)
            except Overtaken as error:
                _LOG.event(LogEvent.REBUILD_OVERTAKEN, partition=build.shard, error=error)
                break
            except Transient as error:
                _LOG.event(LogEvent.ROUND_WAITS, step="rebuild", error=error)
                await asyncio.sleep(_AGAIN_S)
            except Exception as defect:  # noqa: BLE001  # total: the shard is open, and told not to be whole
                _LOG.event(LogEvent.ROUND_DEFECT, step="rebuild", defect=defect)
                await asyncio.sleep(_DEFECT_S)
            else:
                _LOG.event(LogEvent.REBUILD_COMPLETE, partition=build.shard, count=build.records)
                break
        self._forget(build)

    def _forget(self, build: ShardBuild) -> None:
        if self.builds.get(build.shard) is build:
            del self.builds[build.shard]
            self.completing.pop(build.shard, None)

    def _drop_lost(self, owned: frozenset[int]) -> None:
        """Whoever owns a partition now finds its shard incomplete, and makes it again. While the group
        is in motion nobody owns any."""
        for shard in set(self.builds) - owned if owned else ():
            del self.builds[shard]
            task = self.completing.pop(shard, None)
            if task is not None:
                task.cancel()

    def components(self) -> dict[str, str]:
        """Readiness: the shards that are not whole, and how far they are."""
        return {
            f"ledger-{build.shard}": f"{DEGRADED}rebuild ({build.cause}): {build.step}, "
            f"{build.records} records read"
            for build in self.builds.values()
        }
