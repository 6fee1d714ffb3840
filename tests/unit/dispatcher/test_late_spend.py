"""An attempt that ends after its claim was lost: estimate and correction amount to its real use."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from accounting.booking import entry_of
from dispatcher.amounts import actual_of, outcome, written_off_attempt
from dispatcher.attempts.history import AttemptHistory
from dispatcher.attempts.late_spend import corrections
from dispatcher.work import AdmittedRequest, Result
from schemas.events import Attempt, AttemptAdjusted, ToolCalls
from schemas.usage import COUNTED, measures_of
from tests.support.events import DISPATCHED_AT, NOW_MS, accepted, admitted, attempt

_FENCE = 2**32 + 1
_LATE = st.builds(
    attempt,
    input_tokens=st.integers(0, 10**6),
    output_tokens=st.integers(0, 10**6),
    cost_nano_usd=st.integers(0, 10**12),
    **dict.fromkeys(set(COUNTED) - {"input_tokens", "output_tokens"}, st.integers(0, 10**6)),
)


def _job() -> AdmittedRequest:
    request = accepted()
    return AdmittedRequest(admitted(request), request, DISPATCHED_AT)


def _corrections(late: Attempt | None) -> tuple[AttemptAdjusted, ...]:
    attempts = [] if late is None else [late]
    return corrections(_job(), [written_off_attempt(_job(), 1)], attempts, _FENCE, NOW_MS)


def test_a_vanished_attempt_is_presumed_to_have_used_its_whole_hold() -> None:
    """Input first, as the reaper splits it; where it ran nobody knows."""
    lost = written_off_attempt(_job(), 1)

    assert (lost.input_tokens, lost.output_tokens, lost.cost_nano_usd) == (1_000, 500, 5_000_000)
    assert (lost.backend, lost.status, lost.estimated) == ("unknown", "unknown", True)


@given(_LATE)
def test_estimate_and_correction_add_up_to_the_real_use(late: Attempt) -> None:
    """On every balance of the ledger, and in every measure of the usage tables."""
    fixed = _corrections(late)
    held = {hold.key: hold.amount for hold in _job().admitted.holds if hold.unit != "requests"}
    real = actual_of(late, requests=1)

    logged: Counter[str] = Counter()
    for record in fixed:
        logged.update({b.key: b.amount for b in record.bookings})
    assert {key: held[key] + amount for key, amount in logged.items()} == {
        hold.key: real[hold.unit]  # type: ignore[index]
        for hold in _job().admitted.holds
        if hold.key in held
    }
    booked = Counter(measures_of(written_off_attempt(_job(), 1), 0))
    for record in fixed:
        booked.update(measures_of(record.delta, record.revision))
    assert {k: v for k, v in booked.items() if v} == measures_of(late, 0)


def test_the_estimate_is_taken_back_where_it_was_booked() -> None:
    """By the unknown backend at the deadline; the real use stands where it happened."""
    entries = [entry_of(record, DISPATCHED_AT, NOW_MS) for record in _corrections(attempt())]

    assert [e.lines[0].usage_id.split(":", 1)[1] for e in entries] == ["1:1", "1:2"]
    assert [(e.lines[0].backend, e.lines[0].finished_at_ms) for e in entries] == [
        ("unknown", _job().request.deadline_ms),
        ("b1", attempt().finished_at_ms),
    ]


def test_a_claim_lost_before_any_call_only_takes_the_estimate_back() -> None:
    """Nothing was used."""
    assert [record.delta.output_tokens for record in _corrections(None)] == [-500]


def test_an_attempt_that_nobody_booked_is_only_added() -> None:
    """The outcome that stands says that it never ran."""
    fixed = corrections(_job(), [], [attempt()], _FENCE, NOW_MS)

    assert [(record.revision, record.delta) for record in fixed] == [(1, attempt())]


def test_an_attempt_that_was_given_up_is_part_of_the_outcome() -> None:
    """Bookings and what the ledger booked under both fences are equal; the request counts once."""
    history = AttemptHistory.after(_job(), 2)
    history.attempts.append(attempt(2))
    history.current = attempt(2)
    finished = outcome(_job(), history.attempts, Result("completed"), _FENCE + 1, NOW_MS)

    assert [a.status for a in finished.attempts] == ["unknown", "succeeded"]
    assert {b.key: b.amount for b in finished.bookings} == {
        hold.key: hold.amount + (history.actual[hold.unit] or 0)  # type: ignore[index]
        for hold in _job().admitted.holds
    }


def test_a_fence_under_which_nothing_ran_books_nothing() -> None:
    """The first attempt was booked under its own fence."""
    history = AttemptHistory.after(_job(), 1)
    history.attempts.append(attempt(1))

    assert history.actual == {"nano_usd": 0, "tokens": 0, "requests": 1}


def test_what_is_taken_back_is_all_that_was_booked() -> None:
    """Every count of it, also of an attempt whose kinds of tokens and calls were known."""
    kinds = [ToolCalls(kind="web_search", calls=3)]
    counts = {name: number for number, name in enumerate(COUNTED, start=1)}
    known = attempt(**counts, cost_nano_usd=9, tool_kinds=kinds)
    back, again = corrections(_job(), [known], [known], _FENCE, NOW_MS)

    taken = Counter(measures_of(back.delta, 1))
    taken.update(measures_of(again.delta, 2))
    assert set(taken) >= set(COUNTED)
    assert set(taken.values()) == {0}
    assert back.delta.tool_kinds == [ToolCalls(kind="web_search", calls=-3)]
