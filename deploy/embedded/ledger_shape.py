"""How many servers carry the ledger, what they are called and where they would like to listen. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count

from deploy.embedded.problem import StackError

_PORT = 6390
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
    """The ports that its servers would like to have; in a cluster each has a second, for the others."""
    if not shape.is_cluster:
        return {"ledger": _PORT}
    names = (each for name in shape.names for each in (name, link(name)))
    return dict(zip(names, count(_CLUSTER_PORT), strict=False))  # the second does not end


def link(name: str) -> str:
    """The name of the port for the other servers."""
    return f"{name}-link"
