"""Times are one list, and tests divide all of it or nothing."""

from __future__ import annotations

from dataclasses import asdict, fields

import pytest

from schemas.runtime.ledger.script import library
from schemas.times import FULL, LedgerTimes, Times, divided


@pytest.mark.parametrize("divisor", [2, 60, 100_000])
def test_every_time_is_divided_and_none_below_its_floor(divisor: int) -> None:
    """Also those that the ledger knows."""
    shorter = divided(FULL, divisor)

    for full, short in ((FULL, shorter), (FULL.ledger, shorter.ledger)):
        assert isinstance(full, Times | LedgerTimes)
        for each in fields(full):
            whole, part = getattr(full, each.name), getattr(short, each.name)
            if isinstance(whole, int):
                floor = min(whole, each.metadata["at_least_ms"])
                assert part == max(whole // divisor, floor)


def test_divided_by_one_nothing_changes() -> None:
    """The times of every installation."""
    assert divided(FULL, 1) == FULL


def test_nothing_divides_by_less_than_one() -> None:
    """It would make times longer than promised."""
    with pytest.raises(ValueError, match="divides no time"):
        divided(FULL, 0)


def test_the_ledgers_source_states_the_same_times() -> None:
    """Lua and Python cannot differ, because one is made from the other."""
    times = divided(FULL, 60).ledger
    lines = library(times).splitlines()

    for name, ms in asdict(times).items():
        assert lines.count(f"local {name.upper()} = {ms}") == 1
        assert sum(line.startswith(f"local {name.upper()} ") for line in lines) == 1


def test_a_lease_outlives_two_renewals_however_it_is_divided() -> None:
    """Or a test with divided times would show losses that nobody has."""
    for divisor in (1, 7, 60, 100_000):
        times = divided(FULL, divisor)
        assert times.ledger.attempt_lease_ms > 2 * times.lease_renewal_ms
