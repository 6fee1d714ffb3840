"""What is left to do until servers are one cluster, from what each of them says. Pure.

Invariants: slots that a server has stay with it; those that nobody has go to primaries without any. A server that
lost its folder comes back under another id: the id that nobody answers to is forgotten, its copy takes its place.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final

SLOTS: Final = 16_384
_NONE: Final = "-"
"""How CLUSTER NODES writes that a server copies no other."""


@dataclass(frozen=True, slots=True)
class Member:
    """A server as it sees itself, or as another sees it."""

    id: str
    flags: frozenset[str]
    primary: str | None
    """Whom it copies."""
    is_linked: bool
    slots: frozenset[int]


@dataclass(frozen=True, slots=True)
class View:
    """What a server says of itself and of those whom it has met."""

    myself: Member
    others: tuple[Member, ...]

    @property
    def is_new(self) -> bool:
        """Whether it has met nobody and serves nothing."""
        return not self.others and not self.myself.slots

    def has_met(self, ids: Iterable[str]) -> bool:
        """Whether it is connected to all of these, itself aside."""
        return set(ids) <= {self.myself.id, *(each.id for each in self.others if each.is_linked)}


@dataclass(frozen=True, slots=True)
class Plan:
    """What to tell whom; servers are known by their place in the list, primaries first."""

    take_over: tuple[int, ...]
    """Copies of a server that is gone."""
    forget: tuple[tuple[int, str], ...]
    serve: tuple[tuple[int, tuple[tuple[int, int], ...]], ...]
    """Ranges of slots, both ends included."""
    copy: tuple[tuple[int, str], ...]
    """Ids of their primaries."""


def read_view(nodes: str) -> View:
    """The answer to CLUSTER NODES; whom a server is only about to meet is left out."""
    members = [_member(line.split()) for line in nodes.splitlines() if line.strip()]
    (myself,) = (member for member in members if "myself" in member.flags)
    others = (member for member in members if "myself" not in member.flags)
    return View(myself, tuple(each for each in others if "handshake" not in each.flags))


def plan(views: Sequence[View], primaries: int) -> Plan:
    """What makes one cluster with so many primaries of these servers."""
    ids = {view.myself.id for view in views}
    orphans = tuple(n for n, v in enumerate(views) if v.myself.primary not in {None, *ids})
    forget = tuple(
        (n, each.id) for n, v in enumerate(views) for each in v.others if each.id not in ids
    )
    idle = [n for n, v in enumerate(views) if not v.myself.slots and v.myself.primary is None]
    owners = [n for n, v in enumerate(views) if v.myself.slots]
    wanted = max(0, primaries - len(owners) - len(orphans))
    takers, rest = idle[:wanted], idle[wanted:]
    sources = [*owners, *orphans, *takers]
    copy = tuple((who, views[sources[n % len(sources)]].myself.id) for n, who in enumerate(rest))
    return Plan(orphans, forget, tuple(_shares(_unserved(views), takers or owners[:1])), copy)


def _unserved(views: Sequence[View]) -> list[int]:
    """Slots that neither a server here has nor the primary whose copy is here."""
    served = frozenset[int]().union(*(view.myself.slots for view in views))
    copied = {view.myself.primary for view in views}
    inherited = (each.slots for view in views for each in view.others if each.id in copied)
    served = served.union(*inherited)
    return [slot for slot in range(SLOTS) if slot not in served]


def _shares(
    slots: Sequence[int], takers: Sequence[int]
) -> Iterator[tuple[int, tuple[tuple[int, int], ...]]]:
    if not slots:
        return
    for n, taker in enumerate(takers):
        bounds = (len(slots) * n // len(takers), len(slots) * (n + 1) // len(takers))
        yield taker, tuple(_ranges(slots[slice(*bounds)]))


def _ranges(slots: Sequence[int]) -> Iterator[tuple[int, int]]:
    for _, group in groupby(enumerate(slots), key=lambda pair: pair[1] - pair[0]):
        run = [slot for _, slot in group]
        yield run[0], run[-1]


def _member(words: Sequence[str]) -> Member:
    name, _, flags, primary, _, _, _, link, *slots = words
    return Member(
        id=name,
        flags=frozenset(flags.split(",")),
        primary=None if primary == _NONE else primary,
        is_linked=link == "connected",
        # A slot in brackets is on its way from or to another server; it is where it was.
        slots=frozenset(slot for text in slots if text[0] != "[" for slot in _range(text)),
    )


def _range(text: str) -> range:
    first, _, last = text.partition("-")
    return range(int(first), int(last or first) + 1)
