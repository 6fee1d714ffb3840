"""How many processes of each role a stack runs: what users write, what is possible, and which process is meant. Pure.

Workers share the partitions of their topics, so one more than partitions would have nothing to do. A second control
plane is for the time while the first is restarted: the configuration is written under a lease, by one at a time.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

from deploy.embedded.roles import ROLES, replica_names
from schemas.topics import READ_BY

PARTITIONS: Final = 4
"""Of each topic of a stack that is asked for nothing else."""
_MAX: Final[Mapping[str, int]] = {"ingress": 8, "batches": 4, "admin": 2}
_COUNT: Final = re.compile(r"[0-9]{1,4}", re.ASCII)


def replicas_max(role: str, partitions: int) -> int:
    """The most processes of a role that have something to do."""
    return partitions if role in READ_BY else _MAX[role]


def read_replicas(text: str, partitions: int = PARTITIONS) -> dict[str, int]:
    """Numbers by role, of ``dispatcher=2,ingress=2``. Raises ``ValueError`` with a sentence for whoever wrote it."""
    found: dict[str, int] = {}
    for part in text.split(","):
        role, _, number = part.strip().partition("=")
        if not _COUNT.fullmatch(number):
            raise ValueError(f"{part.strip()!r} is not ROLE=NUMBER, such as dispatcher=2")
        if role not in ROLES:
            raise ValueError(f"{role!r} is no role; the roles are {', '.join(ROLES)}")
        if role in found:
            raise ValueError(f"{role} stands there twice")
        most = replicas_max(role, partitions)
        if not 1 <= int(number) <= most:
            why = ", one for each partition" if role in READ_BY else ""
            raise ValueError(f"{role}={number}: 1 to {most} are possible{why}")
        found[role] = int(number)
    return found


def processes_meant(words: Iterable[str], replicas: Mapping[str, int]) -> tuple[str, ...]:
    """The processes that roles and names stand for, in the order in which readers come before writers; all of
    them for no words. Raises ``ValueError`` for a word that is neither."""
    every = {role: replica_names(role, replicas) for role in reversed(ROLES)}
    names = [name for each in every.values() for name in each]
    meant: set[str] = set()
    for word in words:
        if word not in every and word not in names:
            raise ValueError(
                f"{word!r} is neither a role nor a process that can be restarted: {', '.join(names)}"
            )
        meant.update(every.get(word, (word,)))
    return tuple(name for name in names if name in meant or not meant)
