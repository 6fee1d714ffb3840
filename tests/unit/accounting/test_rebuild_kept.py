"""Keys and jobs come back from the records of those that ended and of those that are under way."""

from __future__ import annotations

from accounting.rebuild.kept import Kept
from schemas.events import KeptRequest, RecordRef
from schemas.times import FULL
from tests.support.events import NOW_MS, accepted

_OLDER, _NEWER = (f"018bcfe5-6800-7000-8000-00000000000{n}" for n in (1, 2))


def _ended(request_id: str, *, key: str | None = None, job: str | None = None) -> KeptRequest:
    return KeptRequest(
        request_id=request_id,
        org="acme",
        idempotency_hash=key,
        fingerprint=None if key is None else "f",
        job=job,
        created_at_ms=NOW_MS,
        produce_by_ms=NOW_MS + 1,
        deadline_ms=NOW_MS + 2,
        ended_at_ms=NOW_MS + 3,
        expires_at_ms=NOW_MS + 4,
        status="completed",
        ran=True,
        fence=7,
        ends=None if job is None else "[200]",
        outcome=RecordRef(topic="inference.outcomes.v1", partition=3, offset=99),
    )


def test_the_latest_request_of_a_key_holds_it() -> None:
    """In whatever order they are found; the earlier one never ran, or the key would not have changed hands."""
    under_way = accepted(request_id=_NEWER, idempotency_hash="k", fingerprint="g")
    for is_first in (True, False):
        kept = Kept(FULL)
        for take in (0, 1) if is_first else (1, 0):
            if take:
                kept.accept(under_way)
            else:
                kept.end(_ended(_OLDER, key="k"))
        (claim,) = kept.claims.values()
        assert (claim.req, claim.fingerprint) == (_NEWER, "g")


def test_a_claim_that_was_produced_again_has_its_last_produce() -> None:
    """Two records of one request: until the later one's time it is not lost."""
    kept = Kept(FULL)
    for produce_by_ms in (NOW_MS + 9, NOW_MS + 5):
        kept.accept(accepted(idempotency_hash="k", fingerprint="f", produce_by_ms=produce_by_ms))
    (claim,) = kept.claims.values()
    assert claim.produce_by_ms == NOW_MS + 9
    assert claim.until_ms == NOW_MS + FULL.ledger.claim_kept_ms


def test_a_job_that_ended_stays_so() -> None:
    """Its acceptance, read later, does not reopen it; one under way has no end."""
    kept = Kept(FULL)
    kept.end(_ended(_OLDER, job="{}"))
    kept.accept(accepted(request_id=_OLDER, job="{}"))
    kept.accept(accepted(request_id=_NEWER, job="{}"))

    assert kept.jobs["acme", _OLDER].ends == "[200]"
    assert kept.jobs["acme", _NEWER].ends is None
    mark = kept.marks["acme", _OLDER]
    assert (mark.offset, mark.ran) == (99, True)
    assert mark.due_ms == NOW_MS + 3 + FULL.ledger.terminal_kept_ms


def test_a_request_without_key_and_job_leaves_nothing() -> None:
    """Nor does one of a version that did not write its fingerprint."""
    kept = Kept(FULL)
    kept.accept(accepted())
    kept.accept(accepted(idempotency_hash="k"))
    assert not kept.claims
    assert not kept.jobs
