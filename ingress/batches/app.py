"""The composition root of the process that runs batches: all of ingress that begins requests, and no door.

Clients ask ingress for batches; what they asked for stands in the store of files, and is found there. Any number of these
processes share the batches by lease. At SIGTERM a process gives its leases back, so that another goes on at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass
from typing import Any, Final

from ingress.batches.figures import BatchFigures
from ingress.batches.lease import BatchLeases
from ingress.batches.pace import Pace
from ingress.batches.runner import BatchRunner
from ingress.batches.settings import BatchesSettings
from ingress.batches.store import BatchStore
from ingress.files.store import open_files
from ingress.gatekeeper.log_gate import LogGate
from ingress.gatekeeper.refusal_audit import RefusalAudit
from ingress.health.exposed import expose_bounds
from ingress.plumbing import Plumbing
from schemas.runtime.process.clock import random_bytes
from schemas.runtime.process.run import told_to_end
from schemas.runtime.process.shown import expose_components, expose_config
from schemas.runtime.process.status_pages import StatusPages
from schemas.runtime.process.tasks import keep_running

_ROLE: Final = "batches"
_TOKEN_BYTES: Final = 8
_GIVE_UP_WITHIN_S: Final = 10.0
"""A ledger that is away takes no lease back: it ends by itself."""


@dataclass(slots=True)
class BatchesProcess:
    """The parts of one process that runs batches."""

    settings: BatchesSettings
    plumbing: Plumbing
    gate: LogGate
    refusals: RefusalAudit
    runner: BatchRunner

    def components(self) -> dict[str, str]:
        """Readiness: component to ``ok`` or what is wrong with it. Without the store of files batches wait, and go on by themselves."""
        return {**self.plumbing.components(), "files": self.runner.files}

    async def run(self) -> int:
        """Run batches until SIGTERM or SIGINT, or until what is needed cannot be had. 0 after a signal."""
        plumbing, end = self.plumbing, told_to_end()
        expose_components(plumbing.metrics, self.components)
        expose_config(plumbing.metrics, plumbing.config)
        expose_bounds(plumbing.metrics, self.gate.closing)
        self.runner.figures.expose()
        pages = StatusPages(
            self.settings.host,
            self.settings.http_port,
            self.components,
            plumbing.metrics,
            plumbing.clock,
        )
        await pages.start()
        background = [asyncio.create_task(work) for work in self._background()]
        running = asyncio.create_task(self._run_batches())
        told = asyncio.create_task(end.wait())
        await asyncio.wait({running, told}, return_when=asyncio.FIRST_COMPLETED)
        running.cancel()
        await asyncio.wait({running}, timeout=_GIVE_UP_WITHIN_S)
        for task in (told, *background):
            task.cancel()
        await self._disconnect()
        await pages.stop()
        if running.done() and not running.cancelled():
            running.result()
        return 0

    async def _run_batches(self) -> None:
        await self.plumbing.connect()
        await keep_running("batches", self.runner.run, self.plumbing.metrics)

    def _background(self) -> Iterator[Coroutine[Any, Any, None]]:
        """What runs beside the lines; a defect in one of them is a pause of that one."""
        forever = {**self.plumbing.background(self._trouble), "refusal audit": self.refusals.run}
        for name, work in forever.items():
            yield keep_running(name, work, self.plumbing.metrics)

    def _trouble(self) -> dict[str, str]:
        """What it reports of itself."""
        return self.components() | self.gate.closing()

    async def _disconnect(self) -> None:
        await self.runner.starter.cancellations.finish()
        await self.refusals.finish()
        await self.plumbing.disconnect()


def create_app(settings: BatchesSettings) -> BatchesProcess:
    """Build all parts; nothing connects before ``run``. Call it inside the running loop."""
    plumbing = Plumbing.create(settings, _ROLE)
    clock = plumbing.clock
    gate = LogGate(
        config=plumbing.config,
        clock=clock,
        conditions=plumbing.watch.conditions,
        metrics=plumbing.metrics,
    )
    token = f"{settings.instance_id} {random_bytes(_TOKEN_BYTES).hex()}"
    # Lines take at most half of what an organization has of keys, so that its clients' own find room; they stand in no list of jobs.
    starter = plumbing.starter(gate, max(1, settings.idempotency_keys_max // 2), jobs_max=0)
    runner = BatchRunner(
        BatchStore(open_files(settings.files_url)),
        BatchLeases(plumbing.ledger_store, token),
        starter,
        clock,
        settings.batch_lines_max,
        Pace(settings.batch_lines_per_s, lambda: bool(gate.closing())),
        BatchFigures(plumbing.metrics, clock),
    )
    return BatchesProcess(
        settings, plumbing, gate, RefusalAudit(gate.tally, plumbing.producer, clock), runner
    )
