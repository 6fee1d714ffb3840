"""What the last verifications said of each shard of the ledger, and what of that is an alarm: pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypedDict

import msgspec

from schemas.readiness import DEGRADED, OK

State = Literal["equal", "differs", "behind", "closed", "incomplete"]
"""``behind``: what differs may be accounting's lag. ``closed``, ``incomplete``: nothing is compared, for the shard
decides nothing, or its tables are being made again."""

_NAMED: Final = 3
_LATE_PERIODS: Final = 5


class ShardVerdict(msgspec.Struct, frozen=True, kw_only=True):
    """What one verification says of one shard."""

    shard: int
    state: State
    organizations: int = 0
    difference: int = 0
    """The sum of all differences without their signs."""
    why: str = ""
    """Of a shard that is not compared."""
    differences: tuple[dict[str, Any], ...] = ()
    """Each with its explanation, the largest ones; bounded."""

    @property
    def requests(self) -> tuple[str, ...]:
        """Ids that explain its differences."""
        named = (each.get("explanation", {}).get("requests", ()) for each in self.differences)
        return tuple(dict.fromkeys(request for ids in named for request in ids))


class BooksShown(TypedDict):
    """What the last verification said of a shard, and since when its books differ or when they were last equal."""

    shard: int
    state: State
    organizations: int
    difference: int
    why: str
    differences: tuple[dict[str, Any], ...]
    differs_since_ms: int | None
    equal_at_ms: int | None


@dataclass(frozen=True, slots=True)
class Change:
    """A shard whose books are told about: they differ now, or in another way, or are equal again."""

    verdict: ShardVerdict
    differs: bool


@dataclass(slots=True)
class BooksAlarm:
    """The verdicts of one process; it is told every round of verification, and how long one may take."""

    period_s: float
    began_s: float
    verdicts: dict[int, ShardVerdict] = field(default_factory=dict)
    since_ms: dict[int, int] = field(default_factory=dict)
    """By shard, since when it differs."""
    equal_at_ms: dict[int, int] = field(default_factory=dict)
    _verified_s: float | None = None

    def take(self, verdicts: Iterable[ShardVerdict], at_ms: int, now_s: float) -> list[Change]:
        """The verdicts of a round that began at ``at_ms``; what of them has to be told.

        A shard that is not compared now keeps the alarm that it had: nothing says that it is over.
        """
        self._verified_s = now_s
        changes = []
        for verdict in verdicts:
            before = self.verdicts.get(verdict.shard)
            self.verdicts[verdict.shard] = verdict
            if verdict.state == "differs":
                self.since_ms.setdefault(verdict.shard, at_ms)
                if before is None or before.differences != verdict.differences:
                    changes.append(Change(verdict, differs=True))
            elif verdict.state == "equal":
                self.equal_at_ms[verdict.shard] = at_ms
                if self.since_ms.pop(verdict.shard, None) is not None:
                    changes.append(Change(verdict, differs=False))
        return changes

    def component(self, now_s: float) -> str:
        """The state of the books in readiness: degraded at worst, for writing configuration needs no books.

        Ids of requests are named there, and no organization: anybody may read it.
        """
        told = []
        for shard in sorted(self.since_ms):
            verdict = self.verdicts[shard]
            ids = verdict.requests
            named = f" (requests {', '.join(ids[:_NAMED])})" if ids else ""
            told.append(f"shard {shard} differs by {verdict.difference}{named}")
        told += [
            f"shard {shard} is {verdict.state}{f': {verdict.why}' if verdict.why else ''}"
            for shard, verdict in sorted(self.verdicts.items())
            if verdict.state in ("closed", "incomplete") and shard not in self.since_ms
        ]
        late_s = now_s - (self.began_s if self._verified_s is None else self._verified_s)
        if late_s > _LATE_PERIODS * self.period_s:
            told.append(f"not verified for {late_s:.0f} s")
        return DEGRADED + "; ".join(told) if told else OK

    def document(self) -> list[BooksShown]:
        """All verdicts, for operators."""
        return [
            {
                "shard": verdict.shard,
                "state": verdict.state,
                "organizations": verdict.organizations,
                "difference": verdict.difference,
                "why": verdict.why,
                "differences": verdict.differences,
                "differs_since_ms": self.since_ms.get(shard),
                "equal_at_ms": self.equal_at_ms.get(shard),
            }
            for shard, verdict in sorted(self.verdicts.items())
        ]

    def amounts(self) -> Mapping[int, int]:
        """By shard, its difference."""
        return {shard: verdict.difference for shard, verdict in self.verdicts.items()}
