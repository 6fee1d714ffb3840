"""The composition root of the control plane: builds its parts, connects them, serves, and takes them down.

The port opens at once and readiness tells what is missing, as in ingress. Nothing of the data plane waits
for this process: while it is away requests are served, and the configuration stays as it is.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from starlette.types import ASGIApp

from ingress.admin.config.forgeries import Forgeries
from ingress.admin.deps import AdminDeps
from ingress.admin.finance.verifier import Verifier
from ingress.admin.http.server import admin_server
from ingress.admin.log.scans import Scans
from ingress.admin.routes import create_http_app
from ingress.admin.settings import AdminSettings
from schemas.runtime.config.feed import ConfigFeed
from schemas.runtime.kafka.produce import Producer
from schemas.runtime.ledger.client import ledger_store
from schemas.runtime.ledger.time_source import LedgerTime
from schemas.runtime.process.clock import Clock
from schemas.runtime.process.connect import connect, read_config
from schemas.runtime.process.loop_counts import expose_loop
from schemas.runtime.process.run import told_to_end
from schemas.runtime.process.self_report import SelfReport
from schemas.runtime.process.server_tls import ServerTls
from schemas.runtime.process.shown import expose_components, expose_config
from schemas.runtime.process.silences import Silences
from schemas.runtime.process.tasks import keep_running
from schemas.runtime.process.telemetry import Metrics
from schemas.runtime.valkey.store import Store
from schemas.topics import AUDIT, CONFIG, OUTCOMES

_ROLE: Final = "admin"
_LOOK_PERIOD_S: Final = 2.0


@dataclass(slots=True)
class ControlPlane:
    """The parts of one admin process."""

    settings: AdminSettings
    config: ConfigFeed
    producer: Producer
    ledger_store: Store
    metrics: Metrics
    clock: Clock
    ledger_time: LedgerTime
    silences: Silences
    verifier: Verifier
    connected: set[str] = field(default_factory=set)

    def components(self) -> dict[str, str]:
        """Readiness: component to ``ok`` or what is wrong with it."""
        store, state = self.ledger_store, self.silences.component
        return {
            "kafka": state("kafka", is_connected="kafka" in self.connected),
            "ledger": state("ledger", is_connected=True) if store.connected else store.trouble,
            "config": self.config.component,
            "clock": self.clock.component,
            "books": self.verifier.component,
        }

    def http_app(self) -> ASGIApp:
        """The application of the port."""
        expose_components(self.metrics, self.components)
        expose_config(self.metrics, self.config)
        return create_http_app(self.components, self.metrics, self.verifier)

    async def run(self) -> int:
        """Serve until SIGTERM or SIGINT, or until what is needed cannot be had. 0 after a signal."""
        end = told_to_end()
        files = self.settings.admin_tls
        tls = None if files is None else ServerTls(files, self._tell_expiry)
        server = admin_server(self.http_app(), self.settings.host, self.settings.admin_port, tls)
        serving = asyncio.create_task(server.serve())
        needs = asyncio.create_task(self._connect_all())
        told = asyncio.create_task(end.wait())
        background = [asyncio.create_task(work) for work in self._background()]
        watched: list[asyncio.Future[Any]] = [serving, needs, told]
        await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
        server.should_exit = True
        await serving
        for task in (needs, told, *background):
            task.cancel()
        await self._disconnect()
        if needs.done() and not needs.cancelled():
            needs.result()
        return 0

    def _tell_expiry(self, at_s: float) -> None:
        self.metrics.set("tallygate_certificate_expires_at_seconds", at_s)

    def _background(self) -> Iterator[Coroutine[Any, Any, None]]:
        """What runs beside the requests; a defect in one of them is a pause of that one."""
        forever = {
            "report": self._own_report().run,
            "look": self._look_forever,
            "ledger time": self.ledger_time.run,
            "verify": self.verifier.run,
            "forgeries": Forgeries(self.config, self.producer, self.metrics).run,
        }
        for name, work in forever.items():
            yield keep_running(name, work, self.metrics)

    def _own_report(self) -> SelfReport:
        config, store = self.config, self.ledger_store
        return SelfReport(self.settings, _ROLE, config, store, None, self.clock, self.components)

    async def _connect_all(self) -> None:
        """Connect what writes need, then stay."""
        await asyncio.gather(
            self._connect("kafka", lambda: self.producer.start((CONFIG, AUDIT, OUTCOMES))),
            self._connect("ledger", self.ledger_store.start),
            read_config(self.config),
        )
        await asyncio.Event().wait()

    async def _connect(self, name: str, start: Callable[[], Awaitable[None]]) -> None:
        await connect(name, start)
        self.connected.add(name)

    async def _look_forever(self) -> None:
        """Ask who is needed whether they still answer, so that nobody who asks for readiness waits."""
        while True:
            await asyncio.gather(
                self.silences.ask("kafka", self.producer.ask_broker),
                self.silences.ask("ledger", lambda: self.ledger_store.call("PING")),
            )
            await asyncio.sleep(_LOOK_PERIOD_S)

    async def _disconnect(self) -> None:
        await self.producer.stop()
        await self.config.stop()
        await self.ledger_store.stop()


def create_app(settings: AdminSettings) -> ControlPlane:
    """Build all parts; nothing connects before ``run``. Call it inside the running loop."""
    clock, metrics = Clock(), Metrics()
    expose_loop(metrics)
    producer = Producer(
        settings.kafka_brokers, settings.instance_id, on_appended=clock.learn_broker
    )
    producer.expose(metrics)
    store = ledger_store(settings.ledger_url, settings.times.ledger)
    store.expose(metrics, "ledger")
    config = ConfigFeed(
        settings.kafka_brokers,
        settings.data_dir,
        verifier=settings.config_verifier,
    )
    deps = AdminDeps(settings, config, producer, store, clock)
    return ControlPlane(
        settings=settings,
        config=config,
        producer=producer,
        ledger_store=store,
        metrics=metrics,
        clock=clock,
        ledger_time=LedgerTime(clock, store, metrics),
        silences=Silences(clock),
        verifier=Verifier.create(deps, Scans(clock), metrics),
    )
