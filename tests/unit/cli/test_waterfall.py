"""Where the time of a request went, drawn from the times in its records."""

from __future__ import annotations

from typing import Any

from deploy.cli.waterfall import WIDTH, hops_of, waterfall_text
from tests.unit.cli.test_timeline import ACCEPTED, ADMITTED, ATTEMPT, DENIED, START_MS, step

TRACE = {"trace_id": "4bf92f3577b34da6a3ce929d0e0e4736", "is_recorded": True}
ENDED = {**DENIED, "status": "completed", "fence": 7, "appended_at_ms": START_MS + 115}
CAME = step("accepted", 0, {**ACCEPTED, "appended_at_ms": START_MS + 3})
RAN = [
    CAME,
    step("admitted", 5, ADMITTED),
    step("attempt", 9, ATTEMPT),
    step("finished", 112, ENDED),
    step("usage", 130, {}),
]


def drawn(*steps: dict[str, Any], **more: Any) -> list[str]:
    timeline = {"request_id": "r1", "org": "acme", "status": "completed", "trace": None}
    return waterfall_text({**timeline, "steps": list(steps), **more}).splitlines()


def hops(*steps: dict[str, Any]) -> list[tuple[str, str, int, int]]:
    return [
        (hop.who, hop.what, hop.from_ms - START_MS, hop.until_ms - START_MS)
        for hop in hops_of(steps)
    ]


def test_each_hop_goes_from_one_record_to_the_next() -> None:
    """From the door to the books."""
    assert hops(*RAN) == [
        ("ingress", "to the log", 0, 3),
        ("limiter_worker", "admits", 3, 5),
        ("dispatcher", "claims it, finds a slot", 5, 9),
        ("b1", "attempt 1 succeeded", 9, 109),
        ("dispatcher", "settles, answers", 109, 115),
        ("accounting", "books", 115, 130),
    ]


def test_a_line_for_each_with_its_beginning_its_length_and_its_bar() -> None:
    """A bar stands where its time does; ``>`` is the first content of a stream."""
    head, trace, title, *lines = drawn(*RAN, trace=TRACE)

    assert head == "r1  acme  completed"
    assert trace == f"trace {TRACE['trace_id']}  its spans are with your collector"
    assert title.endswith(f"|{' 130 ms in all':<{WIDTH}}|")
    assert lines[0] == f"ingress         to the log                 +0     3 ms  |{'#':<{WIDTH}}|"
    assert lines[3].split("|")[1] == f"    {'#' * 5}>{'#' * 40}".ljust(WIDTH)
    assert lines[5].endswith("#######|")
    assert len({len(line) for line in lines}) == 1


def test_both_attempts_of_a_failover_have_their_lines() -> None:
    """With what came of each."""
    first = {**ATTEMPT, "status": "failed", "finished_at_ms": START_MS + 20}
    second = {**ATTEMPT, "attempt": 2, "backend": "b2", "finished_at_ms": START_MS + 60}
    steps = [CAME, step("admitted", 5, ADMITTED), step("attempt", 9, first)]

    assert hops(*steps, step("attempt", 25, second))[3:] == [
        ("b1", "attempt 1 failed", 9, 20),
        ("dispatcher", "claims it, finds a slot", 20, 25),
        ("b2", "attempt 2 succeeded", 25, 60),
    ]


def test_a_wait_for_a_limit_is_drawn_as_a_wait() -> None:
    """Nobody works meanwhile."""
    deferred = step("deferred", 6, {"not_before_ms": START_MS + 1_006})
    lines = drawn(CAME, deferred, step("admitted", 1_010, ADMITTED))

    assert hops(CAME, deferred)[1:] == [
        ("limiter_worker", "decides to wait", 3, 6),
        ("limiter_worker", "waits for its limit", 6, 1_006),
    ]
    assert ".........." in lines[5]


def test_a_refusal_ends_at_the_limiter() -> None:
    """No dispatcher, no accounting of what was not spent."""
    refused = step("finished", 4, {**DENIED, "fence": 0, "appended_at_ms": START_MS + 8})

    assert hops(CAME, refused)[1:] == [("limiter_worker", "refused", 3, 8)]


def test_copies_and_records_of_auditors_are_no_hops() -> None:
    """Nor is a hop drawn of clocks that differ: none is shorter than nothing."""
    copy = step("admitted", 5, ADMITTED, note="copy 2, without effect")
    early = step("admitted", -40, ADMITTED)

    assert hops(CAME, copy, step("audit", 9, {})) == [("ingress", "to the log", 0, 3)]
    assert all(until >= begins for _, _, begins, until in hops(CAME, early, *RAN[2:]))
    assert len(drawn(CAME, early, *RAN[2:])) == 9


def test_a_request_without_trace_or_hops_says_so() -> None:
    """As one that ingress refused by itself."""
    lines = drawn(step("audit", 0, {}))

    assert lines[1].startswith("no trace")
    assert lines[2] == "no hop: the request never reached the log"
    unrecorded = drawn(CAME, trace={**TRACE, "is_recorded": False})
    assert unrecorded[1].endswith("not recorded here")


def test_foreign_texts_move_no_cursor() -> None:
    """A backend's name comes from a log that others may write to."""
    odd = step("attempt", 9, {**ATTEMPT, "backend": "b\x1b[2J\n1"})

    assert "\x1b" not in "".join(drawn(CAME, odd))
    assert len(drawn(CAME, odd)) == 6
