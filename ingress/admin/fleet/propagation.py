"""How far each process has applied the configuration, by its own report in the ledger store."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from schemas.ledger.keys import CONFIG_APPLIED
from schemas.reports import (
    FRESH_FOR_S,
    ProcessReport,
    process_field,
    read_config_report,
    read_process_report,
)
from schemas.runtime.process.clock import Clock
from schemas.runtime.valkey.store import Store, text_pairs

_POLL_S = 0.02


@dataclass(frozen=True, slots=True)
class Instance:
    """One process: the config offset it has applied, the age of its report, and what it says of itself."""

    name: str
    role: str
    offset: int
    age_ms: int
    report: ProcessReport | None = None
    """``None`` of a process of an earlier version."""

    @property
    def is_live(self) -> bool:
        """Whether it reported lately; a process that ended is not waited for."""
        return self.age_ms <= FRESH_FOR_S * 1_000


def read_reports(reports: Mapping[str, str], now_ms: int) -> list[Instance]:
    """Instances from the lines that they wrote, by name.

    A line that cannot be read is no report: its writer counts as one that never reported.
    """
    instances = []
    for name, line in sorted(reports.items()):
        report = read_config_report(line)
        if report is not None:
            age_ms = now_ms - report.at_ms
            own = read_process_report(reports.get(process_field(name), ""))
            instances.append(Instance(name, report.role, report.offset, age_ms, own))
    return instances


def has_reached(instances: Iterable[Instance], role: str, offset: int) -> bool:
    """Whether every live instance of the role is at the offset or beyond."""
    return all(i.offset >= offset for i in instances if i.role == role and i.is_live)


async def instances_of(store: Store, clock: Clock) -> list[Instance]:
    """All instances that ever reported. Raises ``StoreUnavailable``."""
    return read_reports(text_pairs(await store.call("HGETALL", CONFIG_APPLIED)), clock.now_ms())


async def wait_until_applied(
    store: Store, clock: Clock, role: str, offset: int, deadline_s: float
) -> bool:
    """Whether every live instance of the role has applied the offset within ``deadline_s``."""
    give_up_s = clock.monotonic_s() + deadline_s
    while not has_reached(await instances_of(store, clock), role, offset):
        if clock.monotonic_s() >= give_up_s:
            return False
        await asyncio.sleep(_POLL_S)
    return True
