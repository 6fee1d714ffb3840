"""What the ledger booked from the log, in plain Python: totals, usage tables, and marks by the log's clock. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass, field
from typing import TypeAlias

from schemas.ledger import answers, documents
from schemas.ledger.model.attempts import Attempt
from schemas.ledger.model.jobs import Jobs
from schemas.ledger.model.limits import Limits, Scope
from schemas.ledger.states import OPEN, SETTLED
from schemas.times import FULL
from schemas.usage import cell

MARK_MS = FULL.ledger.terminal_kept_ms
FOR_EVER_MS = 2**53 - 1
_FORGOTTEN_PER_CALL = 16
_BOOKED = ("", "BOOKED")

Attempts: TypeAlias = MutableMapping[Scope, Attempt]


def is_told_by_log(row: documents.OutcomeRow, attempt: Attempt) -> bool:
    """Whether the outcome settles what the request used, and no call of the ledger does."""
    if row.ref is not None or (attempt.state not in OPEN and attempt.state != "UNKNOWN"):
        return False
    return row.unsettled or attempt.state == "RESTORED" or attempt.spare is not None


def settle_by_log(org: str, row: documents.OutcomeRow, attempt: Attempt, limits: Limits) -> None:
    """What was held for the request or settled so far makes place for what its outcome books."""
    covered: Counter[str] = Counter()
    is_written_off = attempt.state == "UNKNOWN"
    for field_name, bookings in (
        ("settled", attempt.first.booked if attempt.first else ()),
        ("settled" if is_written_off else "reserved", attempt.holds),
        ("spare", attempt.spare or ()),
    ):
        for booking in bookings:
            covered[booking.key] += booking.amount
            limits.balances[org, booking.key][field_name] -= booking.amount
    for booking in row.bookings:
        over = max(0, booking.amount - covered[booking.key])
        limits.balances[org, booking.key]["settled"] += booking.amount
        if over:
            limits.balances[org, booking.key]["over"] += over
            limits.totals[org, booking.key]["over"] += over


@dataclass
class Books:
    """All that `tg1_book` changes, beside attempts and balances."""

    usage: dict[Scope, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    reached: dict[tuple[str, int], int] = field(default_factory=dict)
    """Per organization and partition, the last booked offset."""
    ended: list[tuple[int, Scope]] = field(default_factory=list)
    """When which mark is due to be forgotten, in the order of the log."""
    forgot_ms: int = 0
    """Up to which time in the log marks were forgotten."""
    finished: dict[Scope, int] = field(default_factory=dict)
    """What is finished and not booked, and since when."""
    changed: dict[str, int] = field(default_factory=dict)
    """Tables that have to be written to the log, and the last offset that changed each."""
    kept: dict[str, int] = field(default_factory=dict)
    """When keys of records are to be forgotten in the log."""

    def book(
        self,
        doc: documents.Book,
        attempts: Attempts,
        limits: Limits,
        jobs: Jobs,
        unlist: Callable[[Scope], None],
    ) -> answers.Booked:
        """See tg1_book; ``unlist`` takes a request out of what is due for reap."""
        lane, fates, at_ms = (doc.org, doc.partition), [], 0
        already = len(self.ended)
        for row in doc.rows:
            if row.offset <= self.reached.get(lane, -1):
                fates.append(self._seen(doc, row, attempts))
                continue
            fate = self._new(doc, row, attempts, jobs, limits, unlist)
            if fate is None:
                break
            fates.append(fate)
            self.reached[lane], at_ms = row.offset, max(at_ms, row.at_ms)
            if row.ref is None:
                self.finished.pop((doc.org, row.req), None)
        added = len(self.ended) - already
        self._forget(at_ms, added + _FORGOTTEN_PER_CALL, attempts, jobs)
        return answers.Booked(rows=tuple(fates), offset=self.reached.get(lane, -1))

    def _seen(
        self, doc: documents.Book, row: documents.OutcomeRow, attempts: Attempts
    ) -> answers.RowFate:
        place = (doc.partition, row.offset)
        known = attempts.get((doc.org, row.req))
        first = known.booked.get(row.ref or "", place) if known else place
        return "SEEN" if first == place else "DUPLICATE"

    def _new(
        self,
        doc: documents.Book,
        row: documents.OutcomeRow,
        attempts: Attempts,
        jobs: Jobs,
        limits: Limits,
        unlist: Callable[[Scope], None],
    ) -> answers.RowFate | None:
        scope = (doc.org, row.req)
        attempt = attempts.get(scope, Attempt(""))
        if (row.ref or "") in attempt.booked:
            if attempt.outcome and row.ref is None:
                self._keep_mark(doc, row, attempt, jobs)
            return "DUPLICATE"
        may_be_forgotten = row.deadline_ms + MARK_MS <= self.forgot_ms
        if may_be_forgotten and row.is_first is None and attempt.state in _BOOKED:
            return None
        if row.is_first is False:
            return "DUPLICATE"
        is_late = row.ref is not None or attempt.state not in SETTLED
        attempts[scope] = attempt
        if is_told_by_log(row, attempt):
            settle_by_log(doc.org, row, attempt, limits)
            limits.leave(scope, attempt.leases)
            attempt.state, attempt.ran = "BOOKED", row.ran
            unlist(scope)
        self._set_mark(doc, row, attempt, jobs)
        self._add(doc.org, row, limits, is_late=is_late)
        return "BOOKED"

    def _set_mark(
        self, doc: documents.Book, row: documents.OutcomeRow, attempt: Attempt, jobs: Jobs
    ) -> None:
        attempt.booked[row.ref or ""] = (doc.partition, row.offset)
        if attempt.state in OPEN or (row.ref is not None and attempt.state):
            return
        if attempt.state not in SETTLED and row.ran:
            attempt.ran = True
        attempt.state = attempt.state or "BOOKED"
        if row.ref is None:
            attempt.ends = attempt.ends or row.ends or ""
        self._keep_mark(doc, row, attempt, jobs)

    def _keep_mark(
        self, doc: documents.Book, row: documents.OutcomeRow, attempt: Attempt, jobs: Jobs
    ) -> None:
        attempt.forget_run()
        attempt.outcome = b""
        if jobs.info(doc.org, row.req) is None:
            due_ms = max(row.deadline_ms, row.at_ms) + MARK_MS
            self.ended.append((due_ms, (doc.org, row.req)))

    def _add(self, org: str, row: documents.OutcomeRow, limits: Limits, *, is_late: bool) -> None:
        for kept in row.kept:
            until_ms = FOR_EVER_MS if kept.until_ms is None else kept.until_ms
            self.kept[kept.key] = max(until_ms, self.kept.get(kept.key, 0))
        for line in row.usage:
            self.changed[f"{org}|u:{line.hour}"] = row.offset
            for measure, amount in line.measures.items():
                self.usage[org, line.hour][cell(line.row, measure)] += amount
        for booking in row.bookings:
            if booking.amount:
                self.changed[f"{org}|{booking.key}"] = row.offset
            total = limits.totals[org, booking.key]
            total["settled"] += booking.amount
            if is_late:
                late = max(0, booking.amount)
                total["late"] += late
                limits.balances[org, booking.key]["settled"] += booking.amount
                limits.balances[org, booking.key]["late"] += late

    def _forget(self, at_ms: int, most: int, attempts: Attempts, jobs: Jobs) -> None:
        for due_ms, scope in self.ended[:most]:
            if due_ms >= at_ms:
                break
            del self.ended[0]
            known = attempts.get(scope)
            if known and known.state not in OPEN and jobs.info(*scope) is None:
                del attempts[scope]
            self.forgot_ms = max(self.forgot_ms, due_ms)

    def unbooked(self, doc: documents.ListUnbooked) -> answers.Unbooked:
        """See tg1_unbooked."""
        due = sorted((at_ms, "|".join(scope), scope) for scope, at_ms in self.finished.items())
        entries = [
            answers.UnbookedAttempt(org=org, req=req, finished_ms=at_ms)
            for at_ms, _, (org, req) in due
            if at_ms <= doc.until_ms
        ]
        return answers.Unbooked(entries=tuple(entries[doc.skip : doc.skip + doc.limit]))
