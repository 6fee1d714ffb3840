"""What follows from the state of a process's components."""

from __future__ import annotations

from schemas.readiness import health_value, missing, readiness


def test_a_process_that_can_serve_is_ready_though_something_is_wrong() -> None:
    """A paused partition or a bus that is away leave it useful; a ledger that is away does not."""
    assert readiness({"ledger": "ok"}) == "ok"
    assert readiness({"ledger": "ok", "t-3": "paused: 64 MiB under way"}) == "degraded"
    assert readiness({"ledger": "ok", "bus": "degraded: not connected"}) == "degraded"
    assert readiness({"ledger": "not connected", "t-3": "paused: x"}) == "unavailable"


def test_only_what_keeps_it_from_its_work_is_missing() -> None:
    """Each with its state, so that nobody has to look further."""
    states = {"kafka": "not connected", "config": "degraded: from the copy on disk", "ledger": "ok"}

    assert missing(states) == ["kafka: not connected"]


def test_a_state_is_a_number_for_whoever_draws_it() -> None:
    """1 is ok, 0 is not, and what is amiss while the process can serve lies between."""
    states = ["ok", "degraded: not connected", "paused: 64 MiB under way", "not connected"]

    assert [health_value(state) for state in states] == [1, 0.5, 0.5, 0]
