"""The checks of a run go red for every kind of damage; each is done to a history that is clean."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.chaos.check import Findings, check, longest_gap_s
from tests.chaos.evidence import (
    OK,
    AcceptedRequest,
    Ceiling,
    ClientRequest,
    Evidence,
    Exchange,
    LedgerState,
    Outcome,
    Unit,
    UsageLine,
)
from tests.support.fakes.call_log import Call, End, Start

COST = 10 * 500 + 4 * 1_500
USED: dict[Unit, int] = {"nano_usd": 2 * COST, "tokens": 28, "requests": 2, "at_once": 2}
"""What the clean history uses of each limit: all of it."""


def _call(request_id: str, number: int = 1, output_tokens: int = 4) -> Call:
    call_id = f"{request_id}-{number}"
    start = Start(call_id, 0, request_id, "fake-1", stream=False, has_gateway_key=False)
    end = End(call_id, 1, 200, 10, output_tokens, f"text of {request_id}", client_closed=False)
    return Call(start, end)


def _line(request_id: str, attempt: int = 1, *, estimated: bool = False) -> UsageLine:
    amounts = (90, 100, 195_000) if estimated else (10, 4, COST)
    usage_id = f"{request_id}:{attempt}:0"
    status = "unknown" if estimated else "succeeded"
    return UsageLine(usage_id, request_id, attempt, *amounts, estimated, status)


def _outcome(
    request_id: str, attempts: tuple[int, ...] = (1,), status: str = "completed"
) -> Outcome:
    return Outcome(request_id, status, attempts, {"request_id": request_id, "status": status})


def _client(request_id: str) -> ClientRequest:
    told = Exchange(0.0, 1.0, OK, request_id, f"text of {request_id}", COST)
    return ClientRequest(f"marker-{request_id}", "org", "sync", [told])


def _clean() -> Evidence:
    """Two requests, each answered by one call."""
    ids = ("r1", "r2")
    return Evidence(
        clients=tuple(map(_client, ids)),
        accepted=tuple(
            AcceptedRequest(request_id, f"marker-{request_id}", "org") for request_id in ids
        ),
        outcomes=tuple(map(_outcome, ids)),
        usage=tuple(map(_line, ids)),
        calls=tuple(map(_call, ids)),
        ledger=LedgerState(0, {"running attempts": 0}),
        ceilings=tuple(Ceiling("org", unit, limit) for unit, limit in USED.items()),
    )


def test_a_clean_history_is_clean() -> None:
    """No check cries wolf."""
    assert check(_clean()) == Findings(*((),) * 9)


def _lose_outcome(e: Evidence) -> Evidence:
    return replace(e, outcomes=e.outcomes[:1], usage=e.usage[:1], calls=e.calls[:1], clients=())


def _lose_promised_job(e: Evidence) -> Evidence:
    job = ClientRequest("marker-j", "org", "job", [], promised="j")
    return replace(e, clients=(*e.clients, job))


def _answer_what_was_never_accepted(e: Evidence) -> Evidence:
    return replace(e, clients=(*e.clients, _client("r3")))


def _contradict_outcome(e: Evidence) -> Evidence:
    return replace(e, outcomes=(*e.outcomes, _outcome("r1", status="failed")))


def _contradict_line(e: Evidence) -> Evidence:
    return replace(e, usage=(*e.usage, replace(e.usage[0], output_tokens=5)))


def _drop_line(e: Evidence) -> Evidence:
    return replace(e, usage=e.usage[:1])


def _call_unseen(e: Evidence) -> Evidence:
    return replace(e, calls=(*e.calls, _call("r1", number=2)))


def _write_no_line_for_an_attempt(e: Evidence) -> Evidence:
    return replace(e, outcomes=(e.outcomes[0], _outcome("r2", attempts=(1, 2))))


def _count_wrong(e: Evidence) -> Evidence:
    return replace(e, calls=(e.calls[0], _call("r2", output_tokens=5)))


def _double_line(e: Evidence) -> Evidence:
    return replace(e, usage=(*e.usage, _line("r2", attempt=2)))


def _execute_a_key_twice(e: Evidence) -> Evidence:
    same = tuple(AcceptedRequest(request.request_id, "marker-r1") for request in e.accepted)
    return replace(e, accepted=same)


def _tell(**told: object) -> Callable[[Evidence], Evidence]:
    def tell(e: Evidence) -> Evidence:
        wrong = replace(e.clients[0].tries[0], **told)  # type: ignore[arg-type]
        return replace(e, clients=(replace(e.clients[0], tries=[wrong]), e.clients[1]))

    return tell


def _call_a_failure_a_success(e: Evidence) -> Evidence:
    return replace(e, outcomes=(_outcome("r1", status="failed"), e.outcomes[1]))


def _keep_a_hold(e: Evidence) -> Evidence:
    return replace(e, ledger=LedgerState(0, {"{org}:b:usd": 7}))


def _drift(e: Evidence) -> Evidence:
    return replace(e, ledger=LedgerState(1, {}))


def _see_too_much_reserved(e: Evidence) -> Evidence:
    return replace(e, breaches=("org: settled 1, reserved 2, limit 2",))


def _lower(unit: Unit) -> Callable[[Evidence], Evidence]:
    return lambda e: replace(e, ceilings=(Ceiling("org", unit, USED[unit] - 1),))


def _refuse_what_completed(e: Evidence) -> Evidence:
    refused = Exchange(0.0, 1.0, "402 BUDGET_EXCEEDED", "r1")
    return replace(e, clients=(*e.clients, ClientRequest("m", "org", "sync", [refused])))


@pytest.mark.parametrize(
    ("finding", "damage"),
    [
        ("lost", _lose_outcome),
        ("lost", _lose_promised_job),
        ("lost", _answer_what_was_never_accepted),
        ("contradicted", _contradict_outcome),
        ("contradicted", _contradict_line),
        ("unbilled", _drop_line),
        ("unbilled", _call_unseen),
        ("unbilled", _write_no_line_for_an_attempt),
        ("unbilled", _count_wrong),
        ("doubled", _double_line),
        ("doubled", _execute_a_key_twice),
        ("misinformed", _tell(text_sha256="another text")),
        ("misinformed", _tell(cost_nano_usd=COST + 1)),
        ("misinformed", _tell(request_id=None)),
        ("misinformed", _call_a_failure_a_success),
        ("unreleased", _keep_a_hold),
        ("unreleased", _drift),
        ("misinformed", _refuse_what_completed),
        ("overspent", _see_too_much_reserved),
        *(("overspent", _lower(unit)) for unit in USED),
    ],
)
def test_damage_is_found(finding: str, damage: Callable[[Evidence], Evidence]) -> None:
    """Whatever goes wrong has a finding of its kind, and the run is not clean."""
    findings = check(damage(_clean()))

    assert getattr(findings, finding)
    assert not findings.is_clean


def test_redelivered_records_are_no_damage() -> None:
    """At-least-once writes equal copies; they count once."""
    clean = _clean()
    copied = replace(clean, outcomes=clean.outcomes * 2, usage=clean.usage * 2)

    assert check(copied).is_clean


def _refused(offset: int, code: str = "BUDGET_EXCEEDED", booked: int | None = None) -> Outcome:
    value = {"error_code": code, "finished_at_ms": offset, "parents": [{"offset": offset}]}
    bookings = [] if booked is None else [{"key": "b", "amount": booked}]
    return Outcome("r1", "refused", (), {**value, "bookings": bookings})


@pytest.mark.parametrize(
    ("second", "is_contradiction"),
    [
        (_refused(2), False),
        (_refused(2, "QUOTA_EXCEEDED"), True),
        (_refused(2, booked=0), False),
        (_refused(2, booked=1), True),
        (replace(_refused(1), value={**_refused(1).value, "finished_at_ms": 3}), True),
        (_outcome("r1"), True),
    ],
)
def test_an_end_may_be_told_for_another_record_of_the_request(
    second: Outcome, is_contradiction: bool
) -> None:
    """The same decision, by a second try or a copy; of one record the end is always the same bytes."""
    clean = _clean()
    outcomes = (_refused(1), second, clean.outcomes[1])
    findings = check(replace(clean, clients=(), outcomes=outcomes))

    assert bool(findings.contradicted) is is_contradiction
    assert bool(findings.restated) is not is_contradiction


def test_a_cut_call_may_be_booked_as_an_estimate() -> None:
    """The estimate stands for the call whose answer nobody saw, and is listed."""
    clean = _clean()
    evidence = replace(
        clean,
        clients=(),
        calls=(*clean.calls, _call("r1", number=2, output_tokens=2)),
        usage=(*clean.usage, _line("r1", attempt=2, estimated=True)),
        ceilings=(),
    )
    findings = check(evidence)

    assert findings.is_clean
    assert len(findings.estimated) == 1


def test_one_estimate_hides_no_second_call() -> None:
    """Two calls without an exact line need two estimates."""
    clean = _clean()
    cut = [_call("r1", number=n, output_tokens=2) for n in (2, 3)]
    usage = (*clean.usage, _line("r1", attempt=2, estimated=True))

    assert check(replace(clean, calls=(*clean.calls, *cut), usage=usage)).unbilled


def test_the_longest_gap_counts_the_edges_and_only_successes() -> None:
    """Failures are no sign of life, and silence at either end counts."""
    tries = [
        Exchange(0.0, ended_s, result)
        for ended_s, result in ((2.0, OK), (5.0, "503 service_unavailable"), (6.5, OK), (20.0, OK))
    ]
    client = ClientRequest("m", "org", "sync", tries)

    assert longest_gap_s([client], 0.0, 10.0) == 4.5
    assert longest_gap_s([client], 0.0, 11.5) == 5.0


def test_a_copy_whose_dispatcher_did_not_hear_that_it_was_settled_contradicts_nothing() -> None:
    """A store took the end and died before it answered; another cost is a contradiction all the same."""
    clean = _clean()
    first = _outcome("r1")
    settled = replace(first, value={**first.value, "unsettled": False})
    unheard = replace(first, value={**first.value, "unsettled": True})
    others = tuple(o for o in clean.outcomes if o.request_id != "r1")

    assert check(replace(clean, outcomes=(settled, unheard, *others))).is_clean
    dearer = replace(unheard, value={**unheard.value, "bookings": [{"amount": 1}]})
    assert check(replace(clean, outcomes=(settled, dearer, *others))).contradicted
