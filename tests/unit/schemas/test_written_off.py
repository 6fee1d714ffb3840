"""A vanished attempt counts the same for all who write it down."""

from __future__ import annotations

from itertools import chain, islice, repeat

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.amounts import written_off_attempt
from dispatcher.attempts.late_spend import corrections
from dispatcher.work import AdmittedRequest
from limiter_worker.reaper import outcome_of
from schemas.events import Attempt, Hold
from schemas.hold_facts import info_of
from schemas.ledger.answers import ReapEntry
from schemas.ledger.documents import Booking
from schemas.usage import measures_of
from tests.support.events import ACCEPTED_AT, DISPATCHED_AT, NOW_MS, accepted, admitted

_AMOUNTS = st.dictionaries(
    st.sampled_from(["nano_usd", "tokens", "requests"]), st.integers(0, 3_000), max_size=3
)
"""What is held of each unit; a request may have a hold of any of them, and of none."""
_BOUNDS = st.integers(0, 4_000)


def _job(held: dict[str, int], bound: int) -> AdmittedRequest:
    request = msgspec.structs.replace(accepted(), input_tokens_bound=bound)
    holds = [
        Hold(key=f"b:org/{unit}:d", unit=unit, amount=amount, start_ms=0, end_ms=1)
        for unit, amount in held.items()
    ]
    admission = msgspec.structs.replace(admitted(request), holds=holds)
    return AdmittedRequest(admission, request, DISPATCHED_AT)


def _reaped(held: dict[str, int], bound: int) -> Attempt:
    """The attempt as the reaper writes it, from what the ledger keeps beside the hold."""
    request = _job(held, bound).request
    holds = [
        Booking(key=f"b:org/{unit}:d", unit=unit, amount=amount)  # type: ignore[arg-type]
        for unit, amount in held.items()
    ]
    entry = ReapEntry(
        org=request.org,
        req=request.request_id,
        verdict="UNKNOWN",
        attempt=1,
        accepted_ms=request.accepted_at_ms,
        deadline_ms=request.deadline_ms,
        fence=2,
        holds=tuple(holds),
    )
    (attempt,) = outcome_of(entry, info_of(request, ACCEPTED_AT)).attempts
    return attempt


def _poured(tokens: int, bound: int) -> tuple[int, int]:
    """Tokens poured one by one: into input while there is room, then into output."""
    places = list(islice(chain(repeat("in", bound), repeat("out")), tokens))
    return places.count("in"), places.count("out")


@given(_AMOUNTS, _BOUNDS)
def test_dispatcher_and_reaper_write_the_same_attempt(held: dict[str, int], bound: int) -> None:
    """So that a correction by whoever wakes up takes back what was booked, whoever booked it."""
    assert written_off_attempt(_job(held, bound), 1) == _reaped(held, bound)


@given(_AMOUNTS, _BOUNDS)
def test_it_counts_as_its_whole_hold(held: dict[str, int], bound: int) -> None:
    """Every unit that was held, input first, by nobody known; without a price there is no cost."""
    attempt = written_off_attempt(_job(held, bound), 1)

    assert (attempt.input_tokens, attempt.output_tokens) == _poured(held.get("tokens", 0), bound)
    assert attempt.cost_nano_usd == held.get("nano_usd")
    assert (attempt.backend, attempt.status, attempt.estimated) == ("unknown", "unknown", True)


@given(_AMOUNTS, _BOUNDS)
def test_a_correction_without_any_use_leaves_nothing_of_it(
    held: dict[str, int], bound: int
) -> None:
    """In each measure of the tables but the request and its attempt, and on each balance."""
    job = _job(held, bound)
    (back,) = corrections(job, [_reaped(held, bound)], [], 1, NOW_MS)
    left = dict(measures_of(_reaped(held, bound), 0))
    for measure, amount in measures_of(back.delta, back.revision).items():
        left[measure] += amount

    assert {name for name, amount in left.items() if amount} <= {"requests", "attempts", "unpriced"}
    assert {b.unit: -b.amount for b in back.bookings} == {
        unit: amount for unit, amount in held.items() if unit != "requests"
    }
