"""Probes turn the verdict only twice in a row; the breaker speaks louder than they do."""

from __future__ import annotations

import pytest

from dispatcher.backends.breaker import OPEN_S, Breaker
from dispatcher.backends.health import Health, Probes

_NOW_S = 1_000.0


@pytest.mark.parametrize(
    ("answers", "is_alive"),
    [
        ("", True),
        ("-", True),
        ("--", False),
        ("-+-", True),
        ("--+", False),
        ("--+-+", False),
        ("--++", True),
    ],
    ids=[
        "unknown",
        "one missed",
        "two missed",
        "never twice",
        "one answer",
        "answers apart",
        "two answers",
    ],
)
def test_two_probes_in_a_row_turn_the_verdict(answers: str, is_alive: bool) -> None:
    """A single one may be chance; a backend counts as alive until proven otherwise."""
    probes = Probes()
    for answer in answers:
        probes = probes.seen(answered=answer == "+")

    assert probes.is_alive == is_alive


@pytest.mark.parametrize(
    ("health", "state"),
    [
        (Health(), "healthy"),
        (Health(probes=Probes(is_alive=False)), "unhealthy"),
        (Health(Breaker(opened_at_s=_NOW_S), Probes(is_alive=False)), "open"),
        (Health(Breaker(opened_at_s=_NOW_S - OPEN_S)), "half_open"),
    ],
)
def test_the_state_is_the_worse_of_both(health: Health, state: str) -> None:
    """What calls found counts for more than what probes found."""
    assert health.state(_NOW_S) == state
