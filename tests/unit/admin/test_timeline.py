"""The story of a request, from its records."""

from __future__ import annotations

from typing import Any

from ingress.admin.log.request_routes import timeline_body
from ingress.admin.log.request_search import RequestRecords
from schemas.audit import RefusalTally, Refused
from schemas.codec import encode
from schemas.events import (
    AttemptAdjusted,
    AuditRecorded,
    Denial,
    Event,
    RecordRef,
    RequestFinished,
    UsageRecorded,
)
from schemas.timeline import Found, Step, assemble, effective_outcome
from tests.support.events import (
    ACCEPTED_AT,
    DISPATCHED_AT,
    NOW_MS,
    REQUEST_ID,
    accepted,
    admitted,
    attempt,
    finished,
)

OUTCOMES, USAGE = "inference.outcomes.v1", "usage.records.v1"


def found(event: Event, topic: str, offset: int, at_ms: int) -> Found:
    return Found(RecordRef(topic=topic, partition=3, offset=offset), at_ms, event)


def request(offset: int = 41) -> Found:
    return found(accepted(), ACCEPTED_AT.topic, offset, NOW_MS + 2)


def admission() -> Found:
    return Found(DISPATCHED_AT, NOW_MS + 4, admitted(accepted(), encode(accepted())))


def outcome(offset: int = 9, **more: Any) -> Found:
    return found(finished([attempt()], [], **more), OUTCOMES, offset, NOW_MS + 902)


def usage(offset: int, revision: int = 0) -> Found:
    line = UsageRecorded(
        usage_id=f"{REQUEST_ID}:1:{revision}",
        request_id=REQUEST_ID,
        org="acme",
        key_id="key_a",
        attempt=1,
        revision=revision,
        route="chat.completions",
        model="echo",
        backend="b1",
        status="succeeded",
        started_at_ms=NOW_MS + 5,
        finished_at_ms=NOW_MS + 900,
        input_tokens=12,
        output_tokens=34,
        cached_tokens=0,
        reasoning_tokens=0,
        estimated=False,
        outcome=RecordRef(topic=OUTCOMES, partition=3, offset=9),
    )
    return found(line, USAGE, offset, NOW_MS + 950)


def story(steps: list[Step]) -> list[str]:
    return [step.what for step in steps]


def test_steps_come_in_the_order_of_time() -> None:
    """However the records were found."""
    steps = assemble([usage(2), outcome(), admission(), request()])

    assert story(steps) == ["accepted", "admitted", "attempt", "finished", "usage"]
    assert steps[0].place == "inference.requests.v1-3@41"
    assert [step.at_ms - NOW_MS for step in steps] == [0, 4, 5, 901, 950]


def test_a_record_that_was_found_twice_counts_once() -> None:
    """A place in the log is one record."""
    assert story(assemble([request(), request()])) == ["accepted"]


def test_the_first_outcome_in_the_log_is_the_effective_one() -> None:
    """A second copy is shown, marked, and its calls are not listed again."""
    second = outcome(12, status="failed", http_status=502, finished_at_ms=NOW_MS + 10)

    steps = assemble([request(), second, outcome(9)])

    effective = effective_outcome(steps)
    assert effective is not None
    assert effective.facts["status"] == "completed"
    assert story(steps) == ["accepted", "attempt", "finished", "finished"]
    assert [s.note for s in steps if s.what == "finished"] == ["copy 2, without effect", None]


def test_a_request_without_outcome_is_open() -> None:
    """Nothing is made up."""
    assert effective_outcome(assemble([request(), admission()])) is None


def test_a_repeated_usage_line_is_marked_and_a_correction_is_not() -> None:
    """The same usage id is the same line; another revision is another."""
    steps = assemble([request(), usage(1), usage(2), usage(3, revision=1)])

    assert [s.note for s in steps if s.what == "usage"] == [None, "copy 2, without effect", None]


def test_a_refusal_shows_the_limit_and_its_usage() -> None:
    """As the outcome has it, to the nano-USD."""
    denial = Denial(
        limit_id="org:budget:month", limit_type="budget", unit="nano_usd", current_usage=9, limit=10
    )
    refused: RequestFinished = finished([], [], status="refused", http_status=402, denial=denial)

    steps = assemble([request(), found(refused, OUTCOMES, 1, NOW_MS + 3)])

    assert story(steps) == ["accepted", "finished"]
    assert steps[1].facts["denial"]["limit_id"] == "org:budget:month"
    assert (steps[1].facts["denial"]["current_usage"], steps[1].facts["denial"]["limit"]) == (9, 10)


def test_the_admission_shows_holds_limits_and_the_price_version() -> None:
    """What decided is on record."""
    (step,) = [s for s in assemble([request(), admission()]) if s.what == "admitted"]

    assert [hold["amount"] for hold in step.facts["holds"]] == [5_000_000, 1_500, 1]
    assert step.facts["price"]["version"] == "echo@4"
    assert step.facts["decided_on"] == "inference.requests.v1-3@41"


def test_each_wait_on_a_deferred_topic_is_a_step() -> None:
    """A request may wait more than once."""
    waits = [
        found(accepted(not_before_ms=NOW_MS + n), f"inference.deferred-{n}s.v1", n, NOW_MS + n)
        for n in (1, 10)
    ]

    steps = assemble([request(), *waits])

    assert story(steps) == ["accepted", "deferred", "deferred"]
    assert steps[2].facts["not_before_ms"] == NOW_MS + 10
    assert {step.note for step in steps} == {None}


def test_a_request_whose_record_is_gone_is_told_by_its_admission() -> None:
    """Its topic keeps it for a shorter time than others keep theirs."""
    steps = assemble([admission(), outcome()])

    assert story(steps)[0] == "accepted"
    assert (steps[0].place, steps[0].note) == (
        "inference.requests.v1-3@41",
        "as admission carries it",
    )


def test_corrections_and_audit_events_are_part_of_the_story() -> None:
    """With the reason of the one and the facts of the other."""
    adjusted = AttemptAdjusted(
        request_id=REQUEST_ID,
        org="acme",
        key_id="key_a",
        route="chat.completions",
        model="echo",
        revision=1,
        delta=attempt(output_tokens=-4, cost_nano_usd=-24_000),
        bookings=[],
        reason="late_finish",
        adjusted_at_ms=NOW_MS + 2_000,
        deadline_ms=NOW_MS + 60_000,
        parents=[],
    )
    audited = AuditRecorded(
        audit_id=f"{REQUEST_ID}:refused",
        org="acme",
        action="refused",
        actor="key_a",
        request_id=REQUEST_ID,
        at_ms=NOW_MS + 3,
        detail='{"limit_id": "x"}',
    )

    steps = assemble(
        [
            request(),
            found(adjusted, OUTCOMES, 20, NOW_MS),
            found(audited, "audit.router", 1, NOW_MS),
        ]
    )

    assert story(steps) == ["accepted", "audit", "adjusted"]
    assert steps[1].facts["detail"] == {"limit_id": "x"}
    assert (steps[2].facts["reason"], steps[2].facts["output_tokens"]) == ("late_finish", -4)


def test_texts_are_left_out_unless_asked_for() -> None:
    """Their sizes are told."""
    records = [request(), outcome(result=b"the answer")]

    without = str(assemble(records))
    with_payload = str(assemble(records, with_payload=True))

    assert "hello" not in without
    assert "the answer" not in without
    assert f"'payload_bytes': {len(accepted().payload)}" in without
    assert "hello" in with_payload
    assert "the answer" in with_payload


def test_a_request_that_was_refused_before_the_log_is_told_by_its_audit_event() -> None:
    """Without the other requests that the event lists."""
    tally = RefusalTally()
    for name in (REQUEST_ID, "another"):
        tally.add(Refused(name, "acme", "key_a", "RATE_LIMIT_EXCEEDED", NOW_MS))
    records = [found(tally.take()[0], "audit.router", 5, NOW_MS + 1_000)]

    told = timeline_body(
        REQUEST_ID, RequestRecords(records, 1, NOW_MS, NOW_MS + 1, None), with_payload=False
    )

    assert (told["status"], told["http_status"]) == ("refused", 429)
    assert told["error_code"] == "RATE_LIMIT_EXCEEDED"
    (step,) = told["steps"]
    assert step["facts"]["detail"] == {"code": "RATE_LIMIT_EXCEEDED", "count": 2}


def test_a_line_of_a_batch_is_named_where_its_request_is_told() -> None:
    """And where it is none nothing is said of batches."""
    line: dict[str, Any] = {"batch_id": "batch_1", "batch_line": 17}
    records = [
        found(accepted(**line), "inference.requests.v1", 41, NOW_MS),
        outcome(**line),
    ]

    told = [step.facts for step in assemble(records) if step.what in ("accepted", "finished")]
    assert [{name: facts[name] for name in line} for facts in told] == [line, line]
    assert "batch" not in str(assemble([request(), outcome(), usage(1)]))
