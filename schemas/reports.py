"""What processes report of themselves in the ledger store: the lines, and how long they are fresh. Pure.

Hashes ``CONFIG_APPLIED`` (fields: instance, and ``process|<instance>``), ``BACKEND_HEALTH`` (field: ``<dispatcher>|<backend>``)
and ``BROKER_DISK`` (field: host).
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

import msgspec

__all__ = [
    "FRESH_FOR_S",
    "NO_EXCESS",
    "REPORT_EVERY_S",
    "BackendReport",
    "ConfigReport",
    "DiskReport",
    "Excess",
    "LaneReport",
    "ProcessReport",
    "backend_field",
    "process_field",
    "read_backend_field",
    "read_backend_report",
    "read_config_report",
    "read_disk_report",
    "read_process_report",
]

REPORT_EVERY_S: Final = 2.0
"""At every change, and this often without one."""
FRESH_FOR_S: Final = 10.0
"""Whoever has reported nothing for longer is not there any more: several reports may get lost."""

_APPLIED: Final = re.compile(r"(?P<role>[a-z_]+) (?P<offset>-?[0-9]{1,15}) (?P<at_ms>[0-9]{1,15})")


class ConfigReport(NamedTuple):
    """How far one process has applied the configuration."""

    role: str
    offset: int
    """Of the newest entry that is in force; below 0 when none is."""
    at_ms: int

    def line(self) -> str:
        """As it stands in the store."""
        return f"{self.role} {self.offset} {self.at_ms}"


def read_config_report(line: str) -> ConfigReport | None:
    """The report in a line; ``None`` when it is none: its writer counts as one that never reported."""
    said = _APPLIED.fullmatch(line)
    return said and ConfigReport(said["role"], int(said["offset"]), int(said["at_ms"]))


class ProcessReport(msgspec.Struct, frozen=True, kw_only=True):
    """What one process says of itself: what another process, or its machine, cannot know. Nothing secret is in it."""

    run: str
    """Drawn at its start: another one under the same instance id is another process."""
    at_ms: int
    twin_ms: int = 0
    """When it last found a report of another process under its instance id, made since its own first; 0 for never."""
    trouble: dict[str, str] = {}
    """Components that are not ok, and what closes its door; the first few."""
    peppers: dict[str, str] = {}
    """Setting to the name of the pepper that it has there: a keyed hash over a fixed text (``schemas/peppers.py``)."""
    local_ahead_ms: int | None = None
    """How far its machine's clock is ahead of the ledger's; unknown until that was read."""
    broker_ahead_ms: int | None = None
    """How far the broker's clock is, as acknowledgements told."""
    kafka_user: str = ""
    """Who it is to the brokers; empty where they ask for no name."""
    stores: dict[str, tuple[str, ...]] = {}
    """``ledger`` and ``bus`` to the run ids of the servers that answered as such."""
    certificates: dict[str, int] = {}
    """File of TLS to when it ends, Unix seconds."""
    disk_free_min_bytes: int = 0
    """Free bytes on a broker's disk below which it takes no request; 0 where it does not look."""
    keeps_files: bool = False
    """Whether it keeps files of clients, of which there may be batches."""

    def line(self) -> bytes:
        """As it stands in the store."""
        return msgspec.json.encode(self)


_PROCESS_PREFIX: Final = "process|"
_PROCESS_REPORT: Final = msgspec.json.Decoder(ProcessReport)


def process_field(instance: str) -> str:
    """The field of a process's report of itself."""
    return f"{_PROCESS_PREFIX}{instance}"


def read_process_report(line: str | bytes) -> ProcessReport | None:
    """The report in a line; ``None`` when it is none of ours."""
    try:
        return _PROCESS_REPORT.decode(line)
    except msgspec.DecodeError:
        return None


class DiskReport(NamedTuple):
    """How much room the disk of a broker has."""

    free_bytes: int
    total_bytes: int
    at_ms: int

    def line(self) -> str:
        """As it stands in the store."""
        return f"{self.free_bytes} {self.total_bytes} {self.at_ms}"


_DISK: Final = re.compile(r"([0-9]{1,18}) ([0-9]{1,18}) ([0-9]{1,15})", re.ASCII)


def read_disk_report(line: str) -> DiskReport | None:
    """The report in a line; ``None`` when it is none."""
    said = _DISK.fullmatch(line)
    return said and DiskReport(*map(int, said.groups()))


class Excess(NamedTuple):
    """By how much a backend has lately exceeded the proved bounds of a model's requests."""

    input_tokens: int = 0
    output_tokens: int = 0


NO_EXCESS: Final = Excess()


class LaneReport(NamedTuple):
    """How a dispatcher sees one model at a backend."""

    breaker: str
    inflight: int
    limit: int
    """Calls of the model that may be under way there at once."""


class BackendReport(msgspec.Struct, frozen=True, kw_only=True):
    """How one dispatcher sees one backend."""

    state: str
    since_ms: int
    """When the state began."""
    inflight: int
    """Calls under way."""
    limit: int = 0
    """Calls that may be under way at once, as they are counted now."""
    open_models: tuple[str, ...] = ()
    """Models whose breaker is open there."""
    queued: dict[str, int] = {}
    """What waits for it, by model; the first few."""
    excess: dict[str, Excess] = {}
    """What requests of a model hold beyond their bound because of it; the first few."""
    is_alive: bool = True
    """What probes say: one that fails them is called when no other is left."""
    breaker: str = "closed"
    """The backend's own; an open one forbids calls of all models."""
    lanes: dict[str, LaneReport] = {}
    """Models with calls under way or a breaker that is not closed; the first few."""
    lacks_key: bool = False
    """Whether its entry names a variable that the dispatcher was not given."""
    probe: str = ""
    """What the last probe came to: a status, or what came instead of one; empty before the first."""
    at_ms: int

    def line(self) -> bytes:
        """As it stands in the store."""
        return msgspec.json.encode(self)


def backend_field(instance: str, backend: str) -> str:
    """The field of a dispatcher's report of a backend."""
    return f"{instance}|{backend}"


def read_backend_field(field: str) -> tuple[str, str]:
    """Dispatcher and backend of a field."""
    instance, _, backend = field.partition("|")
    return instance, backend


_BACKEND_REPORT: Final = msgspec.json.Decoder(BackendReport)


def read_backend_report(line: str) -> BackendReport | None:
    """The report in a line; ``None`` when it is none of ours."""
    try:
        return _BACKEND_REPORT.decode(line)
    except msgspec.DecodeError:
        return None
