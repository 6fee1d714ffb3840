"""Compares what calls booked with what the log booked, and that with the usage log itself: pure.

Three independent sums must agree to the unit: balances (booked when a call ended), totals and usage
tables (booked from the log of outcomes), and a fold of the usage log. What a balance has reserved is the
sum of what open attempts hold. Snapshots are copies of what is under test, so none of this reads them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any, Final, TypeAlias

from schemas.usage import MEASURES

COMPARED_SPAN: Final = timedelta(days=38)
"""Whole days before today. Tables leave the store forty days after their hour; nearly all of that is compared."""
LISTED_MAX: Final = 1_000

FIELDS = ("settled", "over", "late")
"""The fields of a balance that its total has as well."""

Fields: TypeAlias = Mapping[str, Mapping[str, int]]
"""By suffix of a balance, its fields."""


@dataclass(frozen=True, slots=True)
class OrgTables:
    """One organization in the ledger at one instant."""

    balances: Fields
    totals: Fields
    usage: Mapping[str, int]
    """By measure, all hours."""
    held: Mapping[str, int] | None = None
    """What open attempts hold, by suffix of the balance; ``None`` while it changes too fast to be read."""


@dataclass(frozen=True, slots=True)
class Difference:
    """Two sums that should be equal: of a balance (its suffix), or of the organization's usage."""

    org: str
    what: str
    field: str
    ledger: int
    log: int

    @property
    def difference(self) -> int:
        """How much the ledger has more than the log."""
        return self.ledger - self.log


def compare(
    tables: Mapping[str, OrgTables], log: Mapping[str, Mapping[str, int]]
) -> list[Difference]:
    """Every pair of sums that is not equal, by organization; an absent sum is 0."""
    empty = OrgTables({}, {}, {})
    differences = balance_differences(tables)
    for org in tables.keys() | log.keys():
        usage, folded = tables.get(org, empty).usage, log.get(org, {})
        pairs = ((measure, usage.get(measure, 0), folded.get(measure, 0)) for measure in MEASURES)
        differences += [
            Difference(org, "usage", measure, ledger, logged)
            for measure, ledger, logged in pairs
            if ledger != logged
        ]
    return sorted(differences, key=lambda d: d.org)


def report(differences: list[Difference]) -> dict[str, Any]:
    """The verdict: ``difference`` is the sum of all without their signs, 0 when they agree."""
    return {
        "difference": sum(abs(d.difference) for d in differences),
        "differences": [asdict(d) | {"difference": d.difference} for d in differences[:LISTED_MAX]],
        "differences_total": len(differences),
    }


def balance_differences(tables: Mapping[str, OrgTables]) -> list[Difference]:
    """Every field of a balance that is not what speaks for it, by organization."""
    return [
        Difference(org, balance, name, ledger, logged)
        for org in sorted(tables)
        for balance, name, ledger, logged in _balances(tables[org])
        if ledger != logged
    ]


def _balances(table: OrgTables) -> Iterator[tuple[str, str, int, int]]:
    """Balance, field, what the balance says, what speaks for it."""
    nothing: Mapping[str, int] = {}
    held = table.held or {}
    for balance in sorted(table.balances.keys() | table.totals.keys() | held.keys()):
        stored = table.balances.get(balance, nothing)
        total = table.totals.get(balance, nothing)
        for name in FIELDS:
            yield balance, name, stored.get(name, 0), total.get(name, 0)
        if table.held is not None:
            yield balance, "reserved", stored.get("reserved", 0), held.get(balance, 0)


@dataclass(frozen=True, slots=True)
class OrgKeys:
    """Which tables of one organization exist: suffixes of balances, and hours."""

    balances: tuple[str, ...]
    hours: tuple[str, ...]


def tables_of(names: Iterable[str], oldest_hour: str) -> dict[str, OrgKeys]:
    """Sorts key names of the ledger store; balances, totals and usage tables are looked at.

    A total without a balance is listed as well, for it is a difference.
    """
    balances: dict[str, set[str]] = defaultdict(set)
    hours: dict[str, set[str]] = defaultdict(set)
    for name in names:
        owner, _, suffix = name.rpartition("|")
        org = owner.partition("|")[2]
        if suffix.startswith("b:"):
            balances[org].add(suffix)
        elif suffix.startswith("t:"):
            balances[org].add(f"b:{suffix.removeprefix('t:')}")
        elif suffix.startswith("u:") and suffix.removeprefix("u:") >= oldest_hour:
            hours[org].add(suffix.removeprefix("u:"))
    return {
        org: OrgKeys(tuple(sorted(balances[org])), tuple(sorted(hours[org])))
        for org in balances.keys() | hours.keys()
    }
