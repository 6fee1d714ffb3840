"""A short run of the upstream fuzz; `make fuzz` makes a hundred thousand answers."""

from __future__ import annotations

from tests.fuzz.upstream import fuzz
from tests.support.mutations import answer


async def test_mutated_answers_end_in_time_with_a_typed_result() -> None:
    """Nothing is raised, nothing is left behind."""
    found = await fuzz(list(range(1_000)), seed=1)

    assert found.faults == []
    assert found.endings["completed"] > 50
    assert len(found.endings) > 4


def test_an_answer_is_a_function_of_its_number() -> None:
    """So that one can be repeated."""
    assert [answer(3, n) for n in range(50)] == [answer(3, n) for n in range(50)]
