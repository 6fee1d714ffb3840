"""What the ledger reaps, books and forgets, told on the model."""

from __future__ import annotations

from msgspec.structs import replace

from schemas.ledger import answers
from schemas.ledger.documents import (
    ListUnbooked,
    Reaped,
    ReapedRequest,
)
from tests.unit.ledger.model_scene import (
    DEADLINE_MS,
    LEASE_MS,
    MINUTE_MS,
    MONTH,
    T0_MS,
    Ledger,
    row,
    usd,
)


def test_reap_lists_until_it_is_confirmed(ledger: Ledger) -> None:
    """An outcome that did not reach Kafka is offered again after 30 s."""
    ledger.admit("r1", usd(30))
    ledger.now_ms = DEADLINE_MS
    assert ledger.reap() == [("r1", "VOIDED")]
    assert ledger.month() == {}
    assert ledger.reap() == []
    ledger.now_ms += 30_000
    assert ledger.reap() == [("r1", "VOIDED")]
    ledger.model.reaped(Reaped(entries=(ReapedRequest(org="acme", req="r1"),)))
    ledger.now_ms += 30_000
    assert ledger.reap() == []


def test_reap_leaves_an_expired_lease_its_grace(ledger: Ledger) -> None:
    """A successor has 30 s before the attempt is given up."""
    ledger.running("r1", usd(30))
    ledger.now_ms += LEASE_MS + 29_999
    assert ledger.reap() == []
    ledger.now_ms += 1
    assert ledger.reap() == [("r1", "UNKNOWN")]
    assert ledger.month() == {"settled": 30}


def test_a_correction_is_booked_once_and_an_increase_counts_as_late(ledger: Ledger) -> None:
    """It changes balance and total in one step; corrections have no hold behind them."""
    ledger.finish("r1", ledger.running("r1", usd(30)), 30)
    ledger.book_rows(row(1, "r1", 30))
    for offset, (ref, amount) in enumerate((("1", -20), ("1", -20), ("2", 5)), start=2):
        ledger.book_rows(row(offset, "r1", amount, ref=ref))
    assert ledger.month() == {"settled": 15, "late": 5}
    assert ledger.model.limits.totals["acme", MONTH] == {"settled": 15, "late": 5}


def test_an_outcome_that_the_ledger_did_not_hold_settles_its_bookings(ledger: Ledger) -> None:
    """Of a request that it does not know, or knows only from corrections."""
    ledger.book_rows(row(1, "r1", 7), row(2, "r2", -1, ref="1:1"), row(3, "r2", 3))
    assert ledger.month() == {"settled": 9, "late": 10}


def test_what_the_ledger_settled_is_not_settled_by_its_outcome(ledger: Ledger) -> None:
    """Whether it is finished, given up or runs on."""
    ledger.finish("r1", ledger.running("r1", usd(30)), 10)
    ledger.running("r2", usd(30))
    ledger.book_rows(row(1, "r1", 10), row(2, "r2", 30))
    assert ledger.month() == {"settled": 10, "reserved": 30}


def test_a_request_that_ran_by_the_log_alone_is_marked_so(ledger: Ledger) -> None:
    """No key's claim frees it; one that never ran does."""
    ledger.book_rows(row(1, "r1", 7), row(2, "r2", 0, ran=False))
    ran = [ledger.model.attempts["acme", req].ran for req in ("r1", "r2")]
    assert ran == [True, False]


def test_copies_are_known_however_long_accounting_was_away(ledger: Ledger) -> None:
    """300 requests of 8 000 nano-USD, each twice in the log, the copies booked 20 min later."""
    requests = [f"r{n}" for n in range(300)]
    for n, req in enumerate(requests):
        ledger.finish(req, ledger.running(req, usd(8_000, limit=None)), 8_000)
        ledger.book_rows(row(n, req, 8_000))
    ledger.now_ms += 20 * MINUTE_MS
    copies = [row(300 + n, req, 8_000, at_ms=T0_MS + 1_000) for n, req in enumerate(requests)]
    assert set(ledger.book_rows(*copies)) == {"DUPLICATE"}
    assert ledger.month() == ledger.model.limits.totals["acme", MONTH] == {"settled": 2_400_000}


def test_marks_leave_fifteen_minutes_of_the_log_after_deadline_and_append(ledger: Ledger) -> None:
    """Also those of an organization that is silent since."""
    ledger.book_rows(row(1, "r1", 7))
    later_ms = max(DEADLINE_MS, T0_MS) + 15 * MINUTE_MS
    ledger.book_rows(row(2, "r2", 7, at_ms=later_ms), org="other")
    assert ("acme", "r1") in ledger.model.attempts
    ledger.book_rows(row(3, "r3", 7, at_ms=later_ms + 1), org="other")
    assert ("acme", "r1") not in ledger.model.attempts


def test_of_what_may_be_forgotten_the_log_is_asked(ledger: Ledger) -> None:
    """Nothing is booked on a guess: the row and those after it wait for the answer."""
    long_ago_ms = max(DEADLINE_MS, T0_MS) + 15 * MINUTE_MS + 1
    ledger.book_rows(row(1, "r1", 7), row(2, "r2", 7, at_ms=long_ago_ms))
    old, new = row(3, "r1", 7), row(4, "r3", 7, at_ms=long_ago_ms)
    assert ledger.book_rows(old, new) == ()
    copy, first = replace(old, is_first=False), replace(new, is_first=True)
    assert ledger.book_rows(copy, first) == ("DUPLICATE", "BOOKED")
    assert ledger.month()["settled"] == 21


def test_a_running_attempt_outlives_its_mark(ledger: Ledger) -> None:
    """Its hold must return when it ends."""
    ledger.book_rows(row(1, "r1", 0))
    ledger.model.attempts["acme", "r1"].state = "RUNNING"
    ledger.book_rows(row(2, "r2", 0, at_ms=DEADLINE_MS + 99 * MINUTE_MS))
    assert ("acme", "r1") in ledger.model.attempts


def test_what_is_finished_is_listed_until_it_is_booked(ledger: Ledger) -> None:
    """The oldest first, in pages."""
    for req in ("r1", "r2", "r3"):
        ledger.finish(req, ledger.running(req, usd(1)), 1)
        ledger.now_ms += 1
    ledger.book_rows(row(1, "r2", 1))
    listing = ListUnbooked(until_ms=ledger.now_ms, limit=1)
    pages = [ledger.model.books.unbooked(replace(listing, skip=skip)) for skip in range(3)]
    assert [[e.req for e in page.entries] for page in pages] == [["r1"], ["r3"], []]
    early = ListUnbooked(until_ms=T0_MS)
    assert [e.finished_ms for e in ledger.model.books.unbooked(early).entries] == [T0_MS]


def test_book_counts_the_first_record_of_a_request_only(ledger: Ledger) -> None:
    """Records passed before are SEEN, copies at later offsets are DUPLICATE."""
    assert ledger.book((1, "r1"), (2, "r2"), (3, "r1")) == ("BOOKED", "BOOKED", "DUPLICATE")
    assert ledger.book((2, "r2"), (4, "r2"), (5, "r3")) == ("SEEN", "DUPLICATE", "BOOKED")
    assert ledger.model.limits.totals["acme", MONTH]["settled"] == 15


def test_a_booked_request_has_no_second_life(ledger: Ledger) -> None:
    """After a rebuild only the booking is remembered: no admission, no start, no finish."""
    ledger.book((1, "r1"))
    assert ledger.admit("r1", usd(1)) == answers.Duplicate(state="BOOKED")
    assert ledger.start("r1") == answers.Finished(outcome=b"", booked="0:1")
    assert ledger.finish("r1", 1, 1) == answers.Repeated(outcome=b"", booked="0:1")
