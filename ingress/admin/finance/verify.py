"""Compares what calls booked with what the log booked, and that with the usage log itself: pure.

Three independent sums must agree to the unit: balances (booked when a call ended), totals and usage
tables (booked from the log of outcomes), and a fold of the usage log, hour by hour. What lies between the first
two is what attempts have settled and the log has not booked; what a balance has reserved is the sum of what open
attempts hold. Snapshots are copies of what is under test, so none of this reads them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final, TypeAlias

from ingress.admin.finance.hour_sums import ROWS, SUMS

COMPARED_SPAN: Final = timedelta(days=38)
"""Whole days before today. Tables leave the store forty days after their hour; nearly all of that is compared."""
LISTED_MAX: Final = 1_000

FIELDS: Final = ("settled", "over", "late")
"""The fields of a balance that its total has as well."""
HELD: Final = ("reserved", "spare")
"""The fields that open attempts speak for."""

Fields: TypeAlias = Mapping[str, Mapping[str, int]]
"""By suffix of a balance, or by hour, its fields."""


@dataclass(frozen=True, slots=True)
class UnderWay:
    """What attempts of one organization hold, and have settled and not booked: by balance, field and amount."""

    amounts: Fields = field(default_factory=dict)
    """Fields are those of a balance that attempts speak for: settled, reserved, spare."""
    requests: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """By balance, whose they are."""


NOTHING_UNDER_WAY: Final = UnderWay()


@dataclass(frozen=True, slots=True)
class OrgTables:
    """Tables of one organization in the ledger."""

    balances: Fields
    totals: Fields
    hours: Fields
    """Sums of usage, by hour."""
    under_way: UnderWay | None = NOTHING_UNDER_WAY
    """At the same instant; ``None`` of more attempts than can be read at one."""
    cells: Fields = field(default_factory=dict)
    """The same hours by cell, of an examination."""
    reached: int = -1
    """The last outcome that was booked, by its offset."""


@dataclass(frozen=True, slots=True)
class Difference:
    """Two sums that should be equal: of a balance, or of an hour of usage (``what`` is its suffix).

    Of rows that differ, whose amounts are no sum, the ledger has 1.
    """

    org: str
    what: str
    field: str
    ledger: int
    log: int

    @property
    def difference(self) -> int:
        """How much the ledger has more than the log."""
        return self.ledger - self.log

    @property
    def is_usage(self) -> bool:
        """Whether it is of an hour of usage."""
        return self.what.startswith(HOUR)


HOUR: Final = "u:"
"""Begins the suffix of an hour of usage."""


def compare(org: str, tables: OrgTables, log: Fields) -> list[Difference]:
    """Every pair of sums that is not equal; an absent sum is 0."""
    return [*balance_differences(org, tables), *_usage_differences(org, tables.hours, log)]


def balance_differences(org: str, tables: OrgTables) -> list[Difference]:
    """Every field of a balance that is not what speaks for it."""
    return [
        Difference(org, balance, name, ledger, logged)
        for balance, name, ledger, logged in _balances(tables)
        if ledger != logged
    ]


def _balances(tables: OrgTables) -> Iterator[tuple[str, str, int, int]]:
    """Balance, field, what the balance says, what speaks for it."""
    nothing: Mapping[str, int] = {}
    amounts = tables.under_way.amounts if tables.under_way else {}
    for balance in sorted(tables.balances.keys() | tables.totals.keys() | amounts.keys()):
        stored = tables.balances.get(balance, nothing)
        total = tables.totals.get(balance, nothing)
        pending = amounts.get(balance, nothing)
        for name in FIELDS:
            if name != "settled" or tables.under_way is not None:
                yield balance, name, stored.get(name, 0), total.get(name, 0) + pending.get(name, 0)
        for name in HELD if tables.under_way is not None else ():
            yield balance, name, stored.get(name, 0), pending.get(name, 0)


def _usage_differences(org: str, ledger: Fields, log: Fields) -> Iterator[Difference]:
    nothing: Mapping[str, int] = {}
    for hour in sorted(ledger.keys() | log.keys()):
        stored, folded = ledger.get(hour, nothing), log.get(hour, nothing)
        for name in SUMS:
            have, want = stored.get(name, 0), folded.get(name, 0)
            if have != want:
                have, want = (1, 0) if name == ROWS else (have, want)
                yield Difference(org, f"{HOUR}{hour}", name, have, want)


@dataclass(frozen=True, slots=True)
class OrgKeys:
    """Tables of one organization: suffixes of balances, and hours."""

    balances: tuple[str, ...] = ()
    hours: tuple[str, ...] = ()


def suspects(differences: Iterable[Difference]) -> dict[str, OrgKeys]:
    """What has to be looked at again."""
    balances: dict[str, set[str]] = defaultdict(set)
    hours: dict[str, set[str]] = defaultdict(set)
    for each in differences:
        if each.is_usage:
            hours[each.org].add(each.what.removeprefix(HOUR))
        else:
            balances[each.org].add(each.what)
    return _sorted(balances, hours)


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
        elif suffix.startswith(HOUR) and suffix.removeprefix(HOUR) >= oldest_hour:
            hours[org].add(suffix.removeprefix(HOUR))
    return _sorted(balances, hours)


def _sorted(balances: Mapping[str, set[str]], hours: Mapping[str, set[str]]) -> dict[str, OrgKeys]:
    nothing: set[str] = set()
    return {
        org: OrgKeys(
            tuple(sorted(balances.get(org, nothing))), tuple(sorted(hours.get(org, nothing)))
        )
        for org in balances.keys() | hours.keys()
    }
