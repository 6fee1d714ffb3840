"""The guard of the counts: a tenth more fails, noise does not, and the message says what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy.bench.counts import COUNTED
from tests.load.committed import (
    LOOSE,
    NOT_JUDGED,
    exceeding,
    lowest,
    read_committed,
    render_against,
    typical,
)
from tests.load.guard import is_within, measure_rounds

_COMMITTED = {"dispatcher": {"tasks": 8.0, "calls": 3000.0, "wake-ups": 7.0}}


def _measured(
    tasks: float = 8.0, calls: float = 3000.0, wake_ups: float = 7.0
) -> dict[str, dict[str, float]]:
    return {"dispatcher": {"tasks": tasks, "calls": calls, "wake-ups": wake_ups}}


@pytest.mark.parametrize(("tasks", "calls"), [(8.81, 3000.0), (8.0, 3301.0), (9.0, 2000.0)])
def test_a_tenth_more_of_a_count_fails(tasks: float, calls: float) -> None:
    """Whatever another count has saved."""
    assert exceeding(_COMMITTED, [_measured(tasks, calls)]) != []


def test_less_than_a_tenth_more_passes() -> None:
    """The bound is the committed figure and a tenth of it."""
    assert exceeding(_COMMITTED, [_measured(tasks=8.79, calls=3299.0)]) == []


def test_what_was_never_done_fails_above_a_third_of_an_event() -> None:
    """A role, or a count, that was not committed is committed at nothing."""
    found = exceeding({}, [{"ingress": {"store commands": 1.0, "tasks": 0.29}}])

    assert [(each.role, each.what) for each in found] == [("ingress", "store commands")]
    assert "new" in str(found[0])


def test_what_is_too_high_once_and_not_again_passes() -> None:
    """Somebody else's use of the machine passes; work that was added is there each time."""
    assert exceeding(_COMMITTED, [_measured(tasks=12.0), _measured()]) == []
    assert exceeding(_COMMITTED, [_measured(tasks=12.0), _measured(tasks=9.0)]) != []


def test_what_moves_by_itself_is_not_judged() -> None:
    """It has a reason instead."""
    assert exceeding(_COMMITTED, [_measured(wake_ups=70.0)]) == []
    assert all(what in COUNTED and reason for what, reason in NOT_JUDGED.items())


def test_what_reconciliation_does_as_well_fails_when_there_is_one_more_a_request() -> None:
    """A half of one more is what its period may add to a window."""
    committed = {"accounting": {"store commands": 1.1, "timers": 2.0}}

    assert exceeding(committed, [{"accounting": {"store commands": 1.5, "timers": 2.8}}]) == []
    assert len(exceeding(committed, [{"accounting": {"store commands": 2.1, "timers": 3.0}}])) == 2
    assert all(what in COUNTED for _, what in LOOSE)


def test_the_message_names_the_count_and_both_figures() -> None:
    """And by how much it grew."""
    (excess,) = exceeding(_COMMITTED, [_measured(tasks=10.0)])

    assert str(excess) == ("dispatcher: tasks per request: 10 measured, 8 committed (+25%)")


def test_medians_are_committed_and_least_ones_judged() -> None:
    """In the order in which counts are listed, so that a change of the file shows what changed."""
    rounds = [_measured(tasks=tasks) for tasks in (9.0, 8.0, 8.5)]

    assert typical(rounds)["dispatcher"]["tasks"] == 8.5
    assert lowest(rounds)["dispatcher"]["tasks"] == 8.0
    assert list(typical(rounds)["dispatcher"]) == ["wake-ups", "tasks", "calls"]
    assert "dispatcher wake-ups" in render_against(_COMMITTED, rounds[0])


@pytest.mark.timeout(300)
async def test_a_request_costs_no_more_than_committed(tmp_path: Path) -> None:
    """Tasks, futures, timers, calls, store commands, batches and bytes of each process, on a whole stack."""
    committed = read_committed()
    rounds = await measure_rounds(tmp_path, is_within(committed))
    found = exceeding(committed, [one.figures for one in rounds])

    assert not found, "\n".join(
        [
            "a request costs a tenth more than committed in tests/load/committed_counts.json:",
            *map(str, found),
            "take the work out again, or say why it is worth that and commit it: make bench-commit",
        ]
    )
