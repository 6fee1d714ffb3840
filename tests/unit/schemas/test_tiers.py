"""Service tiers: what a name means, and who may bill."""

from __future__ import annotations

import pytest

from schemas.pricing.tiers import billed, named, reached, serving

_STATED = ["default", "flex", "priority"]


@pytest.mark.parametrize(
    ("sent", "tier"),
    [
        (None, None),
        ("auto", None),
        ("", None),
        ("standard", "default"),
        ("on_demand", "default"),
        (" Priority ", "priority"),
        ("x" * 33, "unknown"),
        ("a\tb", "unknown"),
    ],
)
def test_a_name_of_a_tier_is_bounded_and_means_one_thing(
    sent: str | None, tier: str | None
) -> None:
    """Whatever a backend calls its default."""
    assert named(sent) == tier


@pytest.mark.parametrize(
    ("asked", "tiers"),
    [
        (None, ["default", "priority"]),
        ("auto", ["default", "priority"]),
        ("default", ["default"]),
        ("flex", ["flex"]),
        ("priority", ["default", "priority"]),
        ("scale", ["default"]),
    ],
)
def test_a_request_can_reach_what_it_names_and_the_default(
    asked: str | None, tiers: list[str]
) -> None:
    """One that names none, whatever its project is set to at the backend; flex is what it is."""
    assert reached(asked, _STATED, ["priority"]) == tiers


def test_flex_that_has_no_price_reaches_what_a_request_without_a_tier_does() -> None:
    """No backend is asked for it then, so the project at the backend decides."""
    assert reached("flex", ["default", "priority"], ["priority"]) == ["default", "priority"]


@pytest.mark.parametrize(
    ("told", "tiers"),
    [(None, ["default"]), ("flex", ["flex"]), ("batch", ["default"]), ("scale", _STATED)],
)
def test_a_tier_without_a_price_is_billed_as_the_dearest_unless_it_is_sold_cheaper(
    told: str | None, tiers: list[str]
) -> None:
    """Never too low."""
    assert billed(told, _STATED) == tiers


def test_what_the_answer_tells_decides_over_what_was_asked() -> None:
    """And nothing is said where it is the default."""
    assert serving("default", "priority") is None
    assert serving(None, "priority") == "priority"
    assert serving(None, "auto") is None


@pytest.mark.parametrize("told", [None, "default", "standard", "auto", "flex"])
def test_who_asked_for_flex_was_served_so_also_by_a_backend_that_knows_no_tiers(
    told: str | None,
) -> None:
    """A dearer tier that the backend names is another matter: that is what it bills."""
    assert serving(told, "flex") == "flex"
    assert serving("priority", "flex") == "priority"
