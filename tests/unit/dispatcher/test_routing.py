"""The choice of a backend: by weight, never one that is drained or excluded."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.backends.routing import choose, may_retry, why_none
from dispatcher.work import Choice
from schemas.config_state import Snapshot
from schemas.entities import Backend, Model, Target
from schemas.overrides import Pin, Retries, RouteOverrides, Timeout
from schemas.routes import Route, route_at

_URL = "http://127.0.0.1:1/v1"
_CHI_SQUARE_AT_P_0_001 = {2: 13.82, 3: 16.27}
"""Degrees of freedom to the value that chance exceeds once in a thousand."""


def _config(weights: dict[str, int], drained: frozenset[str] = frozenset()) -> Snapshot:
    backends = {
        name: Backend(url=_URL, state="drained" if name in drained else "active")
        for name in weights
    }
    targets = tuple(Target(backend=name, weight=weight) for name, weight in weights.items())
    return Snapshot(models={"echo": Model(backends=targets)}, backends=backends)


def _route(config: Snapshot) -> Route:
    route = route_at("echo", config, 0)
    assert route is not None
    return route


def _chosen(config: Snapshot, draw: float, excluded: frozenset[str] = frozenset()) -> str | None:
    choice = choose(_route(config), config, excluded, draw)
    return None if choice is None else choice.backend_id


@pytest.mark.parametrize(
    "weights",
    [{"a": 1, "b": 1, "c": 1}, {"a": 50, "b": 30, "c": 20}, {"a": 970, "b": 10, "c": 10, "d": 10}],
    ids=["equal", "mixed", "canary"],
)
def test_shares_follow_the_weights(weights: dict[str, int]) -> None:
    """Chi-square of 10 000 draws; the seed makes it the same each time."""
    draws = random.Random(7)
    counts = Counter(_chosen(_config(weights), draws.random()) for _ in range(10_000))
    expected = {name: 10_000 * weight / sum(weights.values()) for name, weight in weights.items()}

    chi_square = sum((counts[name] - share) ** 2 / share for name, share in expected.items())
    assert chi_square < _CHI_SQUARE_AT_P_0_001[len(weights) - 1]


@given(
    st.dictionaries(st.sampled_from("abcd"), st.integers(0, 5), min_size=1),
    st.sets(st.sampled_from("abcd")),
    st.sets(st.sampled_from("abcd")),
    st.floats(0, 1, exclude_max=True),
)
def test_only_a_usable_backend_is_chosen(
    weights: dict[str, int], drained: set[str], excluded: set[str], draw: float
) -> None:
    """One is found exactly when one is left, and weight 0 only when nothing else is."""
    config = _config(weights, frozenset(drained))
    usable = {name: weight for name, weight in weights.items() if name not in drained | excluded}
    chosen = _chosen(config, draw, frozenset(excluded))

    assert (chosen is None) == (not usable)
    if chosen is not None:
        assert chosen in usable
        assert usable[chosen] > 0 or not any(usable.values())


@pytest.mark.parametrize(
    ("draw", "backend"), [(0.0, "a"), (0.249, "a"), (0.25, "b"), (0.999_999_999, "b")]
)
def test_a_draw_falls_into_one_share(draw: float, backend: str) -> None:
    """Shares are half-open, like the draw."""
    assert _chosen(_config({"a": 1, "b": 3}), draw) == backend


@pytest.mark.parametrize(
    ("degraded", "full", "backend"),
    [
        ("", "", "a"),
        ("a", "", "b"),
        ("ab", "", "a"),
        ("", "a", "b"),
        ("a", "b", None),
        ("", "ab", None),
    ],
    ids=["all well", "degraded", "all degraded", "full", "full rather than degraded", "all full"],
)
def test_degraded_is_last_and_full_is_out(degraded: str, full: str, backend: str | None) -> None:
    """Whoever is degraded takes part only among its like; a slot frees sooner than a backend heals."""
    config = _config({"a": 1, "b": 0})
    choice = choose(_route(config), config, (), 0.0, degraded=degraded, full=full)

    assert (choice and choice.backend_id) == backend


@pytest.mark.parametrize(
    ("retries", "calls", "allowed"),
    [(0, 0, True), (2, 4, True), (3, 4, False), (3, 5, True), (23, 104, False), (22, 100, True)],
)
def test_retries_are_a_fifth_of_all_calls_and_three(
    retries: int, calls: int, allowed: bool
) -> None:
    """At quiet times a few, under load a share."""
    assert may_retry(retries, calls) == allowed


def test_the_choice_knows_the_backend_by_its_own_names() -> None:
    """Its entry, and the name it has for the model."""
    backend = Backend(url=_URL)
    config = Snapshot(
        models={"echo": Model(backends=(Target(backend="b", upstream_model="echo-2"),))},
        backends={"b": backend},
    )

    assert choose(_route(config), config, (), 0.5) == Choice("b", backend, "echo-2")


def test_an_unknown_model_or_backend_leads_nowhere() -> None:
    """Both may have been removed since admission."""
    without = Snapshot(models=_config({"a": 1}).models)

    assert route_at("other", _config({"a": 1}), 0) is None
    assert choose(_route(without), without, (), 0.5) is None


def test_a_call_has_the_timeout_and_the_retries_of_its_route() -> None:
    """The timeout bounds whole answers and the silence of streams; the length of streams stays the backend's."""
    config = _config({"a": 1})
    overridden = replace(
        config,
        overrides={
            "echo": RouteOverrides(timeout=Timeout(timeout_s=7), retries=Retries(retries=0))
        },
    )
    choice = choose(_route(overridden), overridden, (), 0.5)

    assert choice is not None
    assert (choice.backend.timeout_s, choice.backend.silence_s, choice.retries) == (7, 7, 0)
    assert choice.backend.total_timeout_s == config.backends["a"].total_timeout_s


@pytest.mark.parametrize(
    ("overrides", "drained", "told"),
    [
        (RouteOverrides(), frozenset(), None),
        (RouteOverrides(), frozenset("ab"), "drained"),
        (RouteOverrides(pin=Pin(backend="a")), frozenset(), "pinned"),
        (RouteOverrides(pin=Pin(backend="a")), frozenset("a"), "pinned"),
    ],
    ids=["all well", "all drained", "pinned", "pinned to a drained one"],
)
def test_a_client_hears_that_an_operator_left_no_backend(
    overrides: RouteOverrides, drained: frozenset[str], told: str | None
) -> None:
    """And no name of a backend."""
    config = replace(_config({"a": 1, "b": 1}, drained), overrides={"echo": overrides})
    why = why_none(_route(config))

    assert (why is None) == (told is None)
    assert told is None or told in str(why)
