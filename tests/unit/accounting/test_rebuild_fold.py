"""The fold of a shard equals the ledger's own books, wherever snapshots, checkpoint and reading begin."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from accounting.rebuild.fold import Added, Fold, Start, TableName, mark_field
from accounting.rebuild.hours import Hours, Line
from accounting.rebuild.rows import Row
from schemas.ids import uuid7
from schemas.ledger.documents import Book, Booking, OutcomeRow, UsageLine
from schemas.ledger.model.ledger import LedgerModel
from schemas.times import FULL

_BASE_MS = 1_800_000_000_000
_KEPT_MS = FULL.ledger.terminal_kept_ms
_ORGS = ("acme", "b|c")
_BALANCES = ("b:org/tokens:2026-11", "b:key/k/nano_usd:total")
_HOURS = ("2026-11-21T12", "2026-11-21T13")


def _request(number: int, made_ms: int) -> str:
    return uuid7(made_ms, number.to_bytes(10))


@dataclass
class _Log:
    """A partition, the books that were made of it, and what was published of them."""

    model: LedgerModel = field(default_factory=lambda: LedgerModel(1))
    rows: list[tuple[str, OutcomeRow]] = field(default_factory=list)
    changed: dict[TableName, int] = field(default_factory=dict)
    balances: dict[TableName, Counter[str]] = field(default_factory=dict)
    usage: dict[TableName, Counter[str]] = field(default_factory=dict)
    offsets: dict[TableName, int] = field(default_factory=dict)
    checkpoint: int = -1

    def append(self, org: str, number: int, ref: str | None, made_at: int, spend: int) -> None:
        offset = len(self.rows)
        hour = _HOURS[number % 2]
        row = OutcomeRow(
            offset=offset,
            at_ms=_BASE_MS + 1_000 * offset,
            req=_request(number, _BASE_MS + 1_000 * min(made_at, offset)),
            deadline_ms=_BASE_MS + 10**7,
            ran=spend > 0,
            ref=ref,
            usage=(
                UsageLine(hour=hour, row="k\tu\tm\tb", measures={"requests": 1, "cost": spend}),
            ),
            bookings=tuple(Booking(key=key, unit="tokens", amount=spend) for key in _BALANCES),
        )
        self.rows.append((org, row))
        fates = self.model.book(Book(org=org, partition=0, rows=(row,))).rows
        if fates == ("BOOKED",):
            for name in (*_BALANCES, hour):
                self.changed[org, name] = offset

    def publish(self, table: TableName) -> None:
        """As accounting does: what is absolute now, under the offset that is reached."""
        org, name = table
        self.offsets[table] = self.model.books.reached.get((org, 0), -1)
        if name in _HOURS:
            self.usage[table] = Counter(self.model.books.usage[table])
        else:
            self.balances[table] = Counter(self.model.limits.totals[table])
        self.changed.pop(table, None)

    def conclude(self) -> None:
        """Nothing that changed up to now is unpublished."""
        if not self.changed:
            self.checkpoint = len(self.rows) - 1

    def read(self, begin: int = 0) -> list[Row]:
        """The rows from there on, as a rebuild has them."""
        return [
            Row(
                row.offset,
                row.at_ms,
                org,
                row.req,
                row.ref,
                row.deadline_ms,
                row.ran,
                tuple((b.key, b.amount) for b in row.bookings),
            )
            for org, row in self.rows[begin:]
        ]

    def copies_among(self, aside: list[Row]) -> set[int]:
        """As the log itself tells: rows that have an earlier record."""
        return {
            row.offset
            for row in aside
            if any(
                each.req == row.req and each.ref == row.ref for _, each in self.rows[: row.offset]
            )
        }


_EVENT = st.tuples(
    st.sampled_from(_ORGS),
    st.integers(0, 5),
    st.none() | st.sampled_from(("1:1", "1:2")),
    st.integers(0, 30),
    st.integers(0, 9),
)
_PUBLISHED = st.lists(
    st.tuples(st.sampled_from(_ORGS), st.sampled_from((*_BALANCES, *_HOURS))), max_size=4
)


@settings(max_examples=400)
@given(st.lists(st.tuples(_EVENT, _PUBLISHED, st.booleans()), max_size=30), st.integers(0, 30))
def test_the_fold_equals_the_books(
    steps: list[tuple[tuple[str, int, str | None, int, int], list[TableName], bool]], reach: int
) -> None:
    """Outcomes, corrections and copies in any order; snapshots of any tables at any time; a checkpoint
    whenever nothing is unpublished; a reading that begins anywhere before it."""
    log = _Log()
    made: dict[tuple[str, int], int] = {}
    for (org, name, ref, wanted, spend), published, sweeps in steps:
        number = name + 10 * _ORGS.index(org)
        made_at = made.setdefault((org, number), min(wanted, len(log.rows)))
        log.append(org, number, ref, made_at, spend)
        for table in [*published, *(log.changed if sweeps else ())]:
            log.publish(table)
        log.conclude()
    begin = max(0, log.checkpoint + 1 - reach)
    offsets = {table: (offset,) for table, offset in log.offsets.items()}
    fold = Fold(Start(log.checkpoint, _BASE_MS + 1_000 * begin, offsets))
    for row in log.read(begin):
        fold.take(row, _KEPT_MS)
    fold.settle(log.copies_among(fold.aside))

    for table, total in log.model.limits.totals.items():
        was = log.balances.get(table, Counter())
        assert was["settled"] + _added(fold, table).settled == total["settled"]
    hours = _hours_of(log, fold)
    for table, cells in log.model.books.usage.items():
        rebuilt = log.usage.get(table, Counter()) + Counter(hours.cells[table])
        assert +rebuilt == +cells


def _added(fold: Fold, table: TableName) -> Added:
    return fold.balances.get(table, Added(-1))


def _hours_of(log: _Log, fold: Fold) -> Hours:
    """The usage hours of what the fold took."""
    hours = Hours(fold.start, fold.copies)
    for org, row in log.rows[fold.start.checkpoint + 1 :]:
        named = [
            Line(org, u.hour, u.row, {f"{u.row}\t{n}": v for n, v in u.measures.items()})
            for u in row.usage
        ]
        if row.offset not in fold.copies:
            hours.add(named, row.offset)
    return hours


@settings(max_examples=100)
@given(st.lists(_EVENT, max_size=30))
def test_marks_are_where_the_books_have_them(
    events: list[tuple[str, int, str | None, int, int]],
) -> None:
    """Each request and correction is marked at its first record, and a copy has no mark."""
    log = _Log()
    for org, number, ref, _, spend in events:
        log.append(org, number + 10 * _ORGS.index(org), ref, 0, spend)
    fold = Fold(Start(-1, 0, {}))
    marks = [fold.take(row, _KEPT_MS) for row in log.read()]

    found = {(m.org, m.req, m.field): m.offset for m in marks if m is not None}
    expected = {
        (org, req, mark_field(ref or None)): offset
        for (org, req), attempt in log.model.attempts.items()
        for ref, (_, offset) in attempt.booked.items()
    }
    assert found == expected


def test_an_old_id_waits_for_the_log() -> None:
    """What was made before the reading began is added only when the log has told that it is the first."""
    log = _Log()
    for number in range(3):
        log.append("acme", number, None, 0, 5)
    fold = Fold(Start(0, _BASE_MS + 1_500, {}))
    for row in log.read(1):
        fold.take(row, _KEPT_MS)

    assert [row.offset for row in fold.aside] == [1, 2]
    assert not fold.balances
    fold.settle({2})
    assert fold.balances["acme", _BALANCES[0]].settled == 5
    assert fold.rows == 1
