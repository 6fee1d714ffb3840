"""Finds batches that nobody runs, and runs them: few at once, few lines at once, and all of them for the background topic, where
interactive requests go first."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from ingress.batches.figures import BatchFigures
from ingress.batches.lease import LEASE_MS, RENEW_S, BatchLeases
from ingress.batches.pace import Pace
from ingress.batches.run import BatchRun
from ingress.batches.store import BatchStore
from ingress.files.stock import FilesAway
from ingress.requests.begin import RequestStarter
from schemas.failures import Transient
from schemas.log_events import LogEvent
from schemas.readiness import DEGRADED, OK
from schemas.runtime.process.clock import Clock
from schemas.runtime.process.event_log import EventLog
from schemas.runtime.valkey.store import StoreError, StoreUnavailable

_LOG = EventLog(__name__)

_BATCHES_MAX: Final = 64
"""Enough that no organization waits for the batches of others; their lines begin in turn."""
_ORG_BATCHES_MAX: Final = 2
_LOOK_S: Final = 2.0
"""Each look is a listing of the store, which a bucket bills."""


@dataclass(slots=True)
class BatchRunner:
    """The batches of this process."""

    store: BatchStore
    leases: BatchLeases
    starter: RequestStarter
    clock: Clock
    lines_max: int
    """Lines of one batch that are under way at once."""
    pace: Pace
    figures: BatchFigures
    running: dict[tuple[str, str], asyncio.Task[None]] = field(default_factory=dict)
    """By organization and batch."""
    files: str = OK
    """What is wrong with the store of files, as far as the last look found."""

    async def run(self) -> None:
        """Until the process is told to end: then its leases are given back, and others go on at once."""
        try:
            while True:
                try:
                    await self.look()
                except Transient as error:
                    _LOG.event(LogEvent.ROUND_WAITS, step="batches", error=error)
                await asyncio.sleep(_LOOK_S)
        finally:
            for task in self.running.values():
                task.cancel()
            await asyncio.gather(*self.running.values(), return_exceptions=True)

    async def look(self) -> None:
        """Begin what may run here. Raises ``Transient``."""
        self.running = {who: task for who, task in self.running.items() if not task.done()}
        orgs = Counter(org for org, _ in self.running)
        for org, batch in await self._open():
            if len(self.running) >= _BATCHES_MAX:
                return
            is_here = (org, batch) in self.running
            if is_here or orgs[org] >= _ORG_BATCHES_MAX or not await self.leases.take(batch):
                continue
            orgs[org] += 1
            self.running[org, batch] = asyncio.create_task(self._run(org, batch))

    async def _open(self) -> list[tuple[str, str]]:
        try:
            found = await self.store.open()
        except FilesAway as error:
            self.files = f"{DEGRADED}{error}"
            raise
        self.files, self.figures.open = OK, len(found)
        return found

    async def _run(self, org: str, batch: str) -> None:
        """One batch, for as long as its lease is ours."""
        running = asyncio.create_task(self._owned(org, batch))
        holding = asyncio.create_task(self._hold(batch))
        try:
            await asyncio.wait({running, holding}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (running, holding):
                task.cancel()
            await asyncio.gather(running, holding, return_exceptions=True)
            with suppress(StoreUnavailable, StoreError):
                await self.leases.give_back(batch)
        if not running.cancelled() and (error := running.exception()) is not None:
            if isinstance(error, Transient):
                _LOG.event(LogEvent.ROUND_WAITS, step="batch", error=error)
            else:
                _LOG.event(LogEvent.BATCH_DEFECT, org=org, defect=error)

    async def _owned(self, org: str, batch: str) -> None:
        owned = await self.store.own(org, batch)
        if owned is not None:
            last, fence = owned
            if fence > 1:
                self.figures.taken_over()
            run = BatchRun(
                last,
                fence,
                self.store,
                self.starter,
                self.clock,
                self.lines_max,
                self.pace,
                self.figures,
            )
            await run.run()

    async def _hold(self, batch: str) -> None:
        """Keep the lease; returns once it is lost, or might be."""
        until_s = self.clock.monotonic_s() + LEASE_MS / 1_000 - RENEW_S
        while self.clock.monotonic_s() < until_s:
            await asyncio.sleep(RENEW_S)
            began_s = self.clock.monotonic_s()
            with suppress(StoreUnavailable, StoreError):
                if not await self.leases.take(batch):
                    return
                until_s = began_s + LEASE_MS / 1_000 - RENEW_S
