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


@pytest.mark.parametrize(
    ("opened_s", "is_on_trial", "answered", "state"),
    [
        (_NOW_S - OPEN_S, False, True, "healthy"),
        (_NOW_S - OPEN_S, False, False, "half_open"),
        (_NOW_S - OPEN_S, True, True, "half_open"),
        (_NOW_S - OPEN_S + 0.1, False, True, "open"),
    ],
    ids=["answers", "answers not", "a call tries it already", "too early"],
)
def test_a_backend_that_nobody_calls_is_healthy_again_by_its_probe(
    opened_s: float, is_on_trial: bool, answered: bool, state: str
) -> None:
    """Its breaker judges connections, and a probe is one; else it would be called broken until somebody calls it."""
    health = Health(Breaker(opened_at_s=opened_s, is_on_trial=is_on_trial))

    assert health.probed(_NOW_S, answered=answered).state(_NOW_S) == state
