"""Names the requests that explain a difference: pure.

First what does not fit by id: a usage line without its outcome, an outcome without its line, what is settled and
not booked. Where everything fits by id, somebody changed a sum: then the rows that differ, and the requests
booked there since the books were last found equal, those of just that amount first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal, TypeAlias

from ingress.admin.finance.hour_sums import ROWS
from ingress.admin.finance.reconcile import Finding, Kind
from ingress.admin.finance.verify import HELD, HOUR, Difference, UnderWay
from schemas.events import AttemptAdjusted, RequestFinished, UsageRecorded
from schemas.usage import UsageRow, cell, hour_of, measures_of

LISTED_MAX: Final = 20
"""Ids, and rows, that are named of one difference."""

Rows: TypeAlias = tuple[tuple[str, int, int], ...]
"""Row and measure of an hour, the ledger's amount, the log's."""

_OF_USAGE: Final[frozenset[Kind]] = frozenset(
    {
        "outcome_not_booked",
        "outcome_without_usage_line",
        "usage_line_without_outcome",
        "usage_line_differs",
    }
)
_OF_BALANCES: Final[frozenset[Kind]] = frozenset(
    {"outcome_not_booked", "booked_not_settled", "settled_not_booked"}
)


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why two sums may differ: requests by id, and rows of an hour as the ledger and the log have them."""

    because: Literal["does not fit", "holds there", "booked since equal", "nothing found"]
    requests: tuple[str, ...] = ()
    requests_total: int = 0
    rows: Rows = ()

    def document(self) -> dict[str, Any]:
        """For answers and log lines."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Booked:
    """What one outcome or correction added to the books of its organization."""

    request_id: str
    bookings: Mapping[str, int]
    """By suffix of the balance."""
    hours: Mapping[str, Mapping[str, int]]
    """By hour, its measures."""

    def amount(self, of: Difference) -> int | None:
        """What it added to the sum that differs; ``None`` when it had no part in it."""
        if not of.is_usage:
            return self.bookings.get(of.what)
        measures = self.hours.get(of.what.removeprefix(HOUR))
        return None if measures is None else measures.get(of.field, 0)


def booked_by(event: RequestFinished | AttemptAdjusted) -> Booked:
    """What the outcome added."""
    if isinstance(event, AttemptAdjusted):
        revision, attempts = event.revision, [event.delta]
    else:
        revision, attempts = 0, event.attempts
    hours: dict[str, Counter[str]] = {}
    for attempt in attempts:
        sums = hours.setdefault(hour_of(attempt.finished_at_ms), Counter())
        sums.update(measures_of(attempt, revision))
    bookings = Counter[str]()
    for booking in event.bookings:
        bookings[booking.key] += booking.amount
    return Booked(event.request_id, bookings, hours)


def explain(
    difference: Difference,
    under_way: UnderWay,
    findings: Iterable[Finding],
    booked: Sequence[Booked],
    rows: Rows = (),
) -> Explanation:
    """The requests behind the difference; findings and bookings are of its organization."""
    misfits = [
        finding.request_id
        for finding in findings
        if finding.request_id
        and finding.kind in (_OF_USAGE if difference.is_usage else _OF_BALANCES)
    ]
    if misfits:
        return _named("does not fit", misfits, rows)
    if difference.field in HELD:
        holding = under_way.requests.get(difference.what, ())
        return _named("holds there", holding, rows)
    parts = [(each, each.amount(difference)) for each in booked]
    there = [(each.request_id, amount) for each, amount in parts if amount is not None]
    wanted = abs(difference.difference) if difference.field != ROWS else None
    # Newest first, and before them whatever is just that much.
    there.reverse()
    there.sort(key=lambda part: abs(part[1]) != wanted)
    return _named("booked since equal", [request_id for request_id, _ in there], rows)


def _named(
    because: Literal["does not fit", "holds there", "booked since equal"],
    requests: Iterable[str],
    rows: Rows,
) -> Explanation:
    distinct = tuple(dict.fromkeys(requests))
    if not distinct and not rows:
        return Explanation("nothing found")
    return Explanation(because, distinct[:LISTED_MAX], len(distinct), rows[:LISTED_MAX])


def cells_of(lines: Iterable[UsageRecorded], hour: str) -> Counter[str]:
    """The table of that hour as the log has it; each line is given once."""
    cells = Counter[str]()
    for line in lines:
        if hour_of(line.finished_at_ms) == hour:
            row = UsageRow.of(line.key_id, line.user, line.model, line.backend).encoded()
            for measure, amount in measures_of(line, line.revision).items():
                cells[cell(row, measure)] += amount
    return cells


def rows_that_differ(ledger: Mapping[str, int], log: Mapping[str, int]) -> Rows:
    """The cells of two tables that are not equal."""
    return tuple(
        (name.replace("\t", " / "), ledger.get(name, 0), log.get(name, 0))
        for name in sorted(ledger.keys() | log.keys())
        if ledger.get(name, 0) != log.get(name, 0)
    )
