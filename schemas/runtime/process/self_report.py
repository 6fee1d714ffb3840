"""Each process says of itself what nobody else can know: which configuration it goes by, and what ``tallygate doctor`` asks for.

One write every two seconds, in the hash that all processes may write already; it gives back what stood there before, so
two processes with one instance id find each other. What costs more than a look is looked up twice a minute.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from schemas.ledger.keys import CONFIG_APPLIED
from schemas.peppers import Peppers, pepper_name
from schemas.printable import one_line
from schemas.readiness import OK
from schemas.reports import (
    REPORT_EVERY_S,
    ConfigReport,
    ProcessReport,
    process_field,
    read_process_report,
)
from schemas.runtime.config.feed import ConfigFeed
from schemas.runtime.kafka.address import read_kafka_address
from schemas.runtime.process.clock import Clock, random_bytes
from schemas.runtime.process.pepper_settings import PepperSettings, WebhookPepperSettings
from schemas.runtime.process.settings import ProcessSettings
from schemas.runtime.valkey.address import Tls, read_address
from schemas.runtime.valkey.store import Store, StoreError, StoreUnavailable

__all__ = ["SelfReport", "ends_of", "run_ids"]

_WRITE: Final = """#!lua flags=allow-oom
local was = redis.call('HGET', KEYS[1], ARGV[3])
redis.call('HSET', KEYS[1], unpack(ARGV))
return was"""
_LOOK_EVERY: Final = 15
"""Reports from one look at stores and certificates to the next."""
_LOOK_WITHIN_S: Final = 2.0
_TROUBLE_MAX: Final = 16
_CHARS_MAX: Final = 200


@dataclass(slots=True)
class SelfReport:
    """The report of one process."""

    settings: ProcessSettings
    role: str
    config: ConfigFeed
    store: Store
    bus: Store | None
    clock: Clock
    trouble: Callable[[], Mapping[str, str]]
    """Components and what is wrong with them; what is ``ok`` is left out."""
    run_name: str = field(default_factory=lambda: random_bytes(4).hex())
    _since_ms: int = 0
    _twin_ms: int = 0
    _stores: dict[str, tuple[str, ...]] = field(default_factory=dict)
    _certificates: dict[str, int] = field(default_factory=dict)

    async def run(self) -> None:
        """Report for ever: at every change of the configuration, and every two seconds without one."""
        reported, reports = -2, 0
        while True:
            offset = self.config.snapshot.offset
            if reports % _LOOK_EVERY == 0:
                await self._look()
            reports += 1
            try:
                await self._write(offset)
                reported = offset
            except (StoreUnavailable, StoreError):
                await asyncio.sleep(REPORT_EVERY_S)
            await self.config.wait_for(reported + 1, REPORT_EVERY_S)

    async def _write(self, offset: int) -> None:
        now_ms, instance = self.clock.now_ms(), self.settings.instance_id
        self._since_ms = self._since_ms or now_ms
        line = ConfigReport(self.role, offset, now_ms).line()
        own = self._report(now_ms).line()
        was = await self.store.call(
            "EVAL", _WRITE, 1, CONFIG_APPLIED, instance, line, process_field(instance), own
        )
        before = read_process_report(was) if isinstance(was, bytes) else None
        # The process that this one replaces made its last report before our first.
        if before is not None and before.run != self.run_name and before.at_ms > self._since_ms:
            self._twin_ms = now_ms

    def _report(self, now_ms: int) -> ProcessReport:
        clock = self.clock.facts
        wrong = ((n, s) for n, s in self.trouble().items() if s != OK)
        shown = [(name, one_line(said)[:_CHARS_MAX]) for name, said in wrong]
        return ProcessReport(
            run=self.run_name,
            at_ms=now_ms,
            twin_ms=self._twin_ms,
            trouble=dict(shown[:_TROUBLE_MAX]),
            peppers=_pepper_names(self.settings),
            local_ahead_ms=clock["local_ahead_ms"],
            broker_ahead_ms=clock["broker_ahead_ms"],
            kafka_user=_user(self.settings.kafka_brokers),
            stores=self._stores,
            certificates=self._certificates,
            disk_free_min_bytes=getattr(self.settings, "disk_free_min_bytes", 0),
            keeps_files=bool(getattr(self.settings, "files_url", "")),
        )

    async def _look(self) -> None:
        """What stores and certificates are; what cannot be looked up stays as it was known."""
        stores = {"ledger": self.store} | ({} if self.bus is None else {"bus": self.bus})
        for name, store in stores.items():
            with suppress(StoreUnavailable, StoreError, TimeoutError):
                async with asyncio.timeout(_LOOK_WITHIN_S):
                    self._stores[name] = run_ids(await store.call_each("INFO", "server"))
        self._certificates = await asyncio.to_thread(ends_of, list(_files(self.settings)))


def run_ids(infos: Iterable[Any]) -> tuple[str, ...]:
    """Which processes answered, from ``INFO server`` of each. Pure."""
    lines = (line for info in infos if isinstance(info, bytes) for line in info.split())
    found = {line.removeprefix(b"run_id:") for line in lines if line.startswith(b"run_id:")}
    return tuple(sorted(run.decode(errors="replace")[:64] for run in found))


def ends_of(files: Iterable[Path]) -> dict[str, int]:
    """When the certificates in files of PEM end, in Unix seconds; of a file of many, the last. What is none is left out."""
    ends: dict[str, int] = {}
    for path in files:
        # Imported here, because it is large and only who has a certificate needs it.
        from cryptography.x509 import load_pem_x509_certificates  # noqa: PLC0415

        with suppress(OSError, ValueError):
            found = load_pem_x509_certificates(path.read_bytes())
            ends[str(path)] = max(int(each.not_valid_after_utc.timestamp()) for each in found)
    return ends


def _pepper_names(settings: ProcessSettings) -> dict[str, str]:
    peppers: dict[str, Peppers] = {}
    if isinstance(settings, PepperSettings):
        peppers["TALLYGATE_KEY_PEPPER"] = settings.key_peppers
        peppers["TALLYGATE_SIGNING_PEPPER"] = settings.signing_peppers
    if isinstance(settings, WebhookPepperSettings):
        peppers["TALLYGATE_WEBHOOK_PEPPER"] = settings.webhook_peppers
    return {name: pepper_name(each.current) for name, each in peppers.items() if each.live}


def _user(brokers: str) -> str:
    login = read_kafka_address(brokers).login
    return "" if login is None else login.user


def _files(settings: ProcessSettings) -> Iterator[Path]:
    """The certificates that the settings name."""
    urls = (settings.ledger_url, getattr(settings, "bus_url", None))
    tls: list[Tls | None] = [read_address(url).tls for url in urls if url]
    tls.append(read_kafka_address(settings.kafka_brokers).tls)
    names = {name for each in tls if each for name in (each.certificate, each.authorities) if name}
    yield from map(Path, sorted(names))
    for name in ("admin_tls_cert", "admin_tls_client_ca"):
        if (path := getattr(settings, name, None)) is not None:
            yield path
