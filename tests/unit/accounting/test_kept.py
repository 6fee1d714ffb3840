"""Which ended requests are kept to be found after the ledger lost what it knew of them."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from accounting.kept import kept_of
from schemas.events import AttemptAdjusted, RecordRef, RequestFinished
from schemas.ids import uuid7_time_ms
from schemas.job_ends import read_end
from schemas.snapshots import key_of
from schemas.times import DAY_MS, FULL
from tests.support.event_samples import SAMPLES
from tests.support.events import REQUEST_ID, attempt, finished

_REF = RecordRef(topic="inference.outcomes.v1", partition=3, offset=41)
_AT_MS = uuid7_time_ms(REQUEST_ID) + 1_000
_KEY = {"idempotency_hash": "ab" * 32, "fingerprint": "cd" * 32}


def _kept(event: RequestFinished | AttemptAdjusted) -> list[str]:
    return [key_of(kept) for kept in kept_of(event, _REF, _AT_MS, FULL.ledger)]


def _finished(**more: Any) -> RequestFinished:
    return finished([attempt()], [], **more)


def test_a_plain_request_is_not_kept() -> None:
    """Nor is a correction, whatever its request was."""
    assert _kept(_finished()) == []
    adjusted = SAMPLES["AttemptAdjusted"]
    assert isinstance(adjusted, AttemptAdjusted)
    assert _kept(adjusted) == []


def test_a_keyed_job_is_kept_twice_each_for_its_own_time() -> None:
    """By key a day, as a job three."""
    by_key, as_job = kept_of(_finished(**_KEY, job="facts"), _REF, _AT_MS, FULL.ledger)

    assert key_of(by_key) == f"acme|k:{'ab' * 32}"
    assert key_of(as_job) == f"acme|j:{REQUEST_ID}"
    made_ms = uuid7_time_ms(REQUEST_ID)
    assert by_key.expires_at_ms == made_ms + DAY_MS
    assert as_job.expires_at_ms == made_ms + 3 * DAY_MS
    assert (by_key.fingerprint, by_key.job, as_job.fingerprint, as_job.job) == (
        "cd" * 32,
        None,
        None,
        "facts",
    )
    assert {(k.outcome, k.ended_at_ms, k.created_at_ms) for k in (by_key, as_job)} == {
        (_REF, _AT_MS, made_ms)
    }


def test_a_job_tells_how_it_ended() -> None:
    """In the words that its list is told by the ledger."""
    (kept,) = kept_of(_finished(job="facts", result=b"{}"), _REF, _AT_MS, FULL.ledger)

    end = read_end(kept.ends or "")
    assert end is not None
    assert (end.http_status, end.backend, end.error_code) == (200, "b1", None)


@pytest.mark.parametrize(
    ("used", "is_kept"),
    [({}, True), ({"input_tokens": 0, "output_tokens": 0, "cost_nano_usd": 0}, False)],
)
def test_a_failure_is_kept_by_its_key_only_if_it_cost_something(
    used: dict[str, int], *, is_kept: bool
) -> None:
    """One that cost nothing gave its key back, and the next try runs."""
    failed = msgspec.structs.replace(
        _finished(**_KEY, status="failed", http_status=502, error_code="upstream_interrupted"),
        attempts=[attempt(status="failed", **used)],
    )

    assert bool(_kept(failed)) == is_kept


def test_an_outcome_of_versions_before_is_not_kept() -> None:
    """Without the fingerprint nobody can tell whether another body came with the key."""
    assert _kept(_finished(idempotency_hash="ab" * 32)) == []
