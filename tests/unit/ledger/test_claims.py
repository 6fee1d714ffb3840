"""Who an idempotency key belongs to, told on the model; the Lua functions are held against it."""

from __future__ import annotations

import pytest

from schemas.ledger import answers
from schemas.ledger.documents import Admit, Book, Cancel, Claim, OutcomeRow, Release
from schemas.ledger.model.ledger import LedgerModel

T0_MS = 1_000_000
PRODUCE_BY_MS = T0_MS + 10_000
DEADLINE_MS = T0_MS + 60_000
QUARTER_HOUR_MS = 15 * 60 * 1000


def claim(
    model: LedgerModel, req: str, at_ms: int = T0_MS, fingerprint: str = "f"
) -> answers.ClaimAnswer:
    doc = Claim(
        org="acme",
        req=req,
        key_hash="k",
        fingerprint=fingerprint,
        produce_by_ms=at_ms + 10_000,
        deadline_ms=at_ms + 60_000,
        limit=100,
    )
    return model.claim(doc, at_ms * 1000)


def test_the_first_request_gets_the_key() -> None:
    """Every later one with the same body is told who has it."""
    model = LedgerModel(1)

    assert claim(model, "r1") == answers.Claimed(req="r1", deadline_ms=DEADLINE_MS)
    assert claim(model, "r2") == answers.Held(req="r1", state="", deadline_ms=DEADLINE_MS)


def test_another_body_is_a_mismatch() -> None:
    """Whatever became of the first request."""
    model = LedgerModel(1)
    claim(model, "r1")

    assert claim(model, "r2", fingerprint="g") == answers.Mismatch()
    assert claim(model, "r2", PRODUCE_BY_MS, fingerprint="g") == answers.Mismatch()


def test_a_request_that_never_reached_the_log_is_taken_over_under_its_id() -> None:
    """With its deadline, and once: the one that takes over has its own time to be produced."""
    model = LedgerModel(1)
    claim(model, "r1")

    assert isinstance(claim(model, "r2", PRODUCE_BY_MS - 1), answers.Held)
    assert claim(model, "r2", PRODUCE_BY_MS) == answers.Claimed(req="r1", deadline_ms=DEADLINE_MS)
    assert isinstance(claim(model, "r3", PRODUCE_BY_MS), answers.Held)


def test_a_key_whose_request_was_not_admitted_in_time_is_free() -> None:
    """None is admitted after its deadline, so the next try is a request of its own."""
    model = LedgerModel(1)
    claim(model, "r1")

    later = answers.Claimed(req="r2", deadline_ms=DEADLINE_MS + 60_000)
    assert claim(model, "r2", DEADLINE_MS) == later


@pytest.mark.parametrize(("forgot_ms", "is_held"), [(QUARTER_HOUR_MS, True), (-1, False)])
@pytest.mark.parametrize("at_ms", [T0_MS + 20_000, DEADLINE_MS, DEADLINE_MS + 2 * QUARTER_HOUR_MS])
def test_a_key_whose_request_may_be_forgotten_is_held(
    at_ms: int, forgot_ms: int, is_held: bool
) -> None:
    """By the log's clock, whatever that of the ledger says: then absence proves nothing."""
    model = LedgerModel(1)
    claim(model, "r1")
    model.books.forgot_ms = DEADLINE_MS + forgot_ms

    held = answers.Held(req="r1", state="", deadline_ms=DEADLINE_MS)
    assert (claim(model, "r2", at_ms) == held) == is_held


@pytest.mark.parametrize("at_ms", [T0_MS, PRODUCE_BY_MS])
def test_a_key_of_a_running_request_is_held(at_ms: int) -> None:
    """The answer names its state."""
    model = LedgerModel(1)
    claim(model, "r1")
    admit = Admit(org="acme", req="r1", deadline_ms=DEADLINE_MS, accepted_ms=T0_MS)
    model.admit(admit, T0_MS * 1000)

    held = answers.Held(req="r1", state="RESERVED", deadline_ms=DEADLINE_MS)
    assert claim(model, "r2", at_ms) == held


def test_a_key_whose_request_was_cancelled_before_it_ran_is_free() -> None:
    """Even for another body, since nothing happened."""
    model = LedgerModel(1)
    claim(model, "r1")
    model.cancel(Cancel(org="acme", req="r1", deadline_ms=DEADLINE_MS), T0_MS * 1000)

    assert claim(model, "r2", fingerprint="g") == answers.Claimed(req="r2", deadline_ms=DEADLINE_MS)


def test_only_its_holder_releases_a_key() -> None:
    """A late release must not free the key of a newer request."""
    model = LedgerModel(1)
    claim(model, "r1")

    assert model.claims.release(Release(org="acme", req="r0", key_hash="k")) == answers.Stale()
    assert model.claims.release(Release(org="acme", req="r1", key_hash="k")) == answers.Ok()
    assert claim(model, "r2") == answers.Claimed(req="r2", deadline_ms=DEADLINE_MS)


def test_a_key_whose_request_ran_by_the_word_of_the_log_is_held() -> None:
    """Its outcome was booked although the ledger knew of no attempt."""
    model = LedgerModel(1)
    claim(model, "r1")
    row = OutcomeRow(offset=0, at_ms=T0_MS, req="r1", deadline_ms=DEADLINE_MS, ran=True)
    model.book(Book(org="acme", partition=0, rows=(row,)))

    held = answers.Held(req="r1", state="BOOKED", deadline_ms=DEADLINE_MS)
    assert claim(model, "r2", DEADLINE_MS + QUARTER_HOUR_MS) == held


def test_a_late_copy_of_a_forgotten_request_frees_no_key() -> None:
    """The request may have run: that this copy came too late says nothing of the first."""
    model = LedgerModel(1)
    claim(model, "r1")
    model.books.forgot_ms = DEADLINE_MS + QUARTER_HOUR_MS
    admit = Admit(org="acme", req="r1", deadline_ms=DEADLINE_MS, accepted_ms=T0_MS)
    model.admit(admit, DEADLINE_MS * 1000)

    held = answers.Held(req="r1", state="REFUSED", deadline_ms=DEADLINE_MS)
    assert claim(model, "r2", DEADLINE_MS + QUARTER_HOUR_MS) == held
