"""The first decision on an id wins, whichever of its copies asks, and whoever gave one of them up."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from schemas.ledger import answers
from schemas.ledger.documents import (
    Admit,
    Balance,
    BroughtKey,
    Cancel,
    Claim,
    Decline,
    ListJobs,
    Readmission,
    Start,
)
from schemas.ledger.model.ledger import LedgerModel
from schemas.times import FULL

T0_MS = 1_000_000
DEADLINE_MS = T0_MS + 60_000
BUDGET = Balance(key="b:x", id="x", unit="nano_usd", amount=60, limit=100, start_ms=0)


@dataclass
class Ledger:
    """The model, and copies of one request in few words."""

    model: LedgerModel = field(default_factory=lambda: LedgerModel(epoch=1))
    now_ms: int = T0_MS

    def admit(self, incarnation_ms: int = 1, **rest: Any) -> answers.AdmitAnswer:
        fields: dict[str, Any] = {
            "req": "r1",
            "terms": "price 7",
            "deadline_ms": DEADLINE_MS,
        } | rest
        document = Admit(
            org="acme",
            accepted_ms=T0_MS,
            incarnation_ms=incarnation_ms,
            **fields,
        )
        return self.model.admit(document, self.now_ms * 1000)

    def cancel(self, incarnation_ms: int | None) -> answers.CancelAnswer:
        document = Cancel(
            org="acme", req="r1", deadline_ms=DEADLINE_MS, incarnation_ms=incarnation_ms
        )
        return self.model.cancel(document, self.now_ms * 1000)

    def claim(self, req: str, produce_by_ms: int, *, joins: bool = False) -> answers.ClaimAnswer:
        document = Claim(
            org="acme",
            req=req,
            key_hash="k",
            fingerprint="f",
            produce_by_ms=produce_by_ms,
            deadline_ms=DEADLINE_MS,
            limit=10,
            joins=joins,
        )
        return self.model.claim(document, self.now_ms * 1000)


@pytest.fixture
def ledger() -> Ledger:
    """A new ledger at T0."""
    return Ledger()


def test_a_copy_hears_the_terms_of_the_admission(ledger: Ledger) -> None:
    """Not those that its own configuration would give it."""
    admitted = ledger.admit()
    copy = ledger.admit(terms="price 70")
    assert copy == answers.Duplicate(answer=admitted, state="RESERVED", terms="price 7")  # type: ignore[arg-type]


def test_an_expired_request_stays_expired(ledger: Ledger) -> None:
    """Also when a copy asks in time, by a clock that was put back."""
    ledger.now_ms = DEADLINE_MS
    assert ledger.admit() == answers.Expired()
    ledger.now_ms = T0_MS
    assert ledger.admit() == answers.Duplicate(answer=answers.Expired(), state="REFUSED")


@pytest.mark.parametrize("why", ["revoked", "gone", "unpriced", "defect", "rolled", "late"])
def test_an_end_by_the_gateway_itself_is_kept(ledger: Ledger, why: Any) -> None:
    """A copy that would be admitted is not."""
    declined = answers.Declined(why=why)
    assert ledger.admit(decline=Decline(why=why)) == declined
    assert ledger.admit() == answers.Duplicate(answer=declined, state="REFUSED")


def test_a_late_copy_ends_nothing_that_was_produced_again(ledger: Ledger) -> None:
    """Before and after the later incarnation was admitted."""
    ledger.claim("r1", T0_MS + 10)
    ledger.now_ms += 20
    assert ledger.claim("r2", T0_MS + 30) == answers.Claimed(req="r1", deadline_ms=DEADLINE_MS)
    late: dict[str, Any] = {"incarnation_ms": T0_MS + 10, "decline": Decline(why="late")}
    assert ledger.admit(**late) == answers.Superseded()
    assert isinstance(ledger.admit(T0_MS + 30), answers.Admitted)
    assert ledger.admit(**late) == answers.Superseded()


def test_whoever_gave_one_produce_up_does_not_cancel_the_next(ledger: Ledger) -> None:
    """Nobody cancelled the request that somebody else produced again."""
    ledger.claim("r1", T0_MS + 10)
    ledger.now_ms += 20
    ledger.claim("r2", T0_MS + 30)
    assert ledger.cancel(T0_MS + 10) == answers.Stale()
    assert isinstance(ledger.admit(T0_MS + 30), answers.Admitted)


def test_whoever_gave_a_produce_up_does_not_cancel_for_those_who_joined_it(ledger: Ledger) -> None:
    """It did reach the log, and a second try waits for it."""
    ledger.claim("r1", T0_MS + 10)
    ledger.admit(T0_MS + 10)
    assert ledger.claim("r2", T0_MS + 30) == answers.Held(
        req="r1", state="RESERVED", deadline_ms=DEADLINE_MS
    )
    assert ledger.cancel(T0_MS + 10) == answers.Stale()


def test_a_tombstone_of_one_incarnation_does_not_stop_a_later_one(ledger: Ledger) -> None:
    """But its own it stops."""
    assert ledger.cancel(5) == answers.Ok()
    assert isinstance(ledger.admit(6), answers.Admitted)


def test_a_tombstone_that_was_answered_stops_all(ledger: Ledger) -> None:
    """A client may have been told that the request is cancelled."""
    ledger.cancel(5)
    assert ledger.admit(5) == answers.Cancelled()
    assert ledger.admit(6) == answers.Cancelled()


def test_a_cancel_by_the_user_stops_all_incarnations(ledger: Ledger) -> None:
    """Whoever produces it."""
    ledger.cancel(None)
    assert ledger.admit(2**50) == answers.Cancelled()


def test_a_refused_readmission_is_kept(ledger: Ledger) -> None:
    """A copy of it does not run when there is room later."""
    ledger.admit(req="other", balances=(BUDGET,))
    again = Readmission(deadline_ms=DEADLINE_MS, accepted_ms=T0_MS, balances=(BUDGET,))
    start = Start(org="acme", req="r1", owner="d", lease_ms=10, readmit=again)
    refused = ledger.model.start(start, T0_MS * 1000)
    assert isinstance(refused, answers.Contended)
    ledger.model.cancel(Cancel(org="acme", req="other", deadline_ms=0), T0_MS * 1000)
    assert ledger.model.start(start, T0_MS * 1000) == refused


def test_a_defect_takes_back_what_was_admitted_and_did_not_start(ledger: Ledger) -> None:
    """Its hold returns, and every copy hears that end; what runs is left alone."""
    defect = Decline(why="defect")
    declined = answers.Declined(why="defect")
    ledger.admit(balances=(BUDGET,))

    assert ledger.admit(decline=defect) == declined
    assert ledger.model.limits.balances["acme", "b:x"]["reserved"] == 0
    assert ledger.admit() == answers.Duplicate(answer=declined, state="REFUSED", terms="price 7")
    running = ledger.admit(req="r2")
    ledger.model.start(Start(org="acme", req="r2", owner="d", lease_ms=9_000), T0_MS * 1000)
    copy = ledger.admit(req="r2", decline=defect)
    assert copy == answers.Duplicate(answer=running, state="RUNNING", terms="price 7")  # type: ignore[arg-type]


def test_a_period_that_is_over_is_told_with_the_ledgers_time(ledger: Ledger) -> None:
    """Whatever clock its limiter has, the next try names the right period."""
    yesterday = Balance(key="b:d", unit="requests", amount=1, start_ms=0, end_ms=T0_MS)

    assert ledger.admit(balances=(yesterday,)) == answers.Rolled(id="", now_ms=T0_MS)


def test_a_cancel_by_the_first_ingress_leaves_a_holder_alone_that_another_has_joined() -> None:
    """It was found in the log before anybody decided it; nothing is produced again for that."""
    ledger = Ledger()
    ledger.claim("r1", T0_MS + 10_000)
    joined = ledger.claim("r2", T0_MS + 11_000, joins=True)

    assert joined == answers.Held(req="r1", state="", deadline_ms=DEADLINE_MS)
    assert ledger.cancel(T0_MS + 10_000) == answers.Stale()
    assert isinstance(ledger.admit(T0_MS + 10_000), answers.Admitted)


KEY = BroughtKey(key_hash="k", fingerprint="f")


@pytest.mark.parametrize("claimed", ["before", "after", "never"])
def test_of_two_requests_with_one_key_one_is_admitted(claimed: str) -> None:
    """A key that was claimed in an earlier life, of a request that came into the log after keys were restored."""
    ledger = Ledger()
    if claimed == "before":
        ledger.claim("r2", 5)
    late = ledger.admit(key=KEY)
    if claimed == "after":
        assert ledger.claim("r2", 5) == answers.Held(
            req="r1", state="RESERVED", deadline_ms=DEADLINE_MS
        )
    own = ledger.admit(req="r2", key=KEY)

    assert [type(late), type(own)] == (
        [answers.Declined, answers.Admitted]
        if claimed == "before"
        else [answers.Admitted, answers.Declined]
    )
    assert ledger.admit(req="r3", key=None) == answers.Admitted()


def test_a_key_that_was_forgotten_after_its_day_takes_nothing_from_a_job_that_waited() -> None:
    """Whoever claims it then is another request by right; and nobody holds it a second day."""
    ledger = Ledger()
    day_ms = FULL.ledger.claim_kept_ms
    ledger.now_ms += day_ms
    ledger.claim("r2", 5)
    later = ledger.now_ms + day_ms

    assert ledger.admit(key=KEY, deadline_ms=later) == answers.Admitted()
    assert ledger.model.claims.held["acme", "k"].req == "r2"
    other = BroughtKey(key_hash="other", fingerprint="f")
    ledger.admit(req="r3", key=other, deadline_ms=later)
    assert ("acme", "other") not in ledger.model.claims.held


def test_a_job_that_is_not_listed_is_listed_when_it_is_admitted() -> None:
    """Also one that is refused: whoever made it finds it. What was listed before stays as it was."""
    ledger = Ledger()
    ledger.admit(job="facts")
    ledger.admit(req="r2", job="facts", decline=Decline(why="gone"))
    ledger.model.jobs.list_again("acme", "r1", 1, "others")

    listed = ledger.model.list_jobs(ListJobs(org="acme", limit=9)).entries
    assert {(each.req, each.info) for each in listed} == {("r1", "facts"), ("r2", "facts")}
