"""A route under overrides: who is called at which share, until when, and that a hold covers all of it."""

from __future__ import annotations

import json
import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.config_state import ConfigState, Snapshot
from schemas.entities import Backend, Model, Target
from schemas.events import ConfigEntry, Reach
from schemas.overrides import Canary, Drain, Pin, RouteOverrides, Timeout, Weights
from schemas.pricing.bound import bound
from schemas.pricing.cost import cost
from schemas.pricing.counts import TokenCounts
from schemas.routes import (
    RETRIES_MAX,
    Route,
    candidates,
    drawn,
    in_force,
    is_drained,
    route_at,
    shares,
)

NOW_MS = 1_800_000_000_000
_CHI_SQUARE_AT_P_0_001 = {1: 10.83, 2: 13.82, 3: 16.27}
"""Degrees of freedom to the value that chance exceeds once in a thousand."""


def _config(
    weights: dict[str, int], drains: dict[str, Drain] | None = None, /, **over: object
) -> Snapshot:
    backends = {name: Backend(url="http://127.0.0.1:1/v1") for name in weights}
    targets = tuple(Target(backend=name, weight=weight) for name, weight in weights.items())
    return Snapshot(
        models={"echo": Model(backends=targets)},
        backends=backends,
        overrides={"echo": RouteOverrides(**over)} if over else {},  # type: ignore[arg-type]
        drains=drains or {},
    )


def _route(config: Snapshot, now_ms: int = NOW_MS) -> Route:
    route = route_at("echo", config, now_ms)
    assert route is not None
    return route


def _names(route: Route) -> list[str]:
    return [target.backend for target in route.targets]


@pytest.mark.parametrize(
    ("over", "expected"),
    [
        ({"weights": Weights(weights={"a": 8, "b": 2})}, {"a": 0.8, "b": 0.2}),
        ({"weights": Weights(weights={"a": 3})}, {"a": 0.75, "b": 0.25}),
        ({"canary": Canary(backend="b", percent=5)}, {"a": 0.95, "b": 0.05}),
        ({"canary": Canary(backend="b", percent=0.5)}, {"a": 0.995, "b": 0.005}),
        (
            {
                "canary": Canary(backend="c", percent=10),
                "weights": Weights(weights={"a": 2, "c": 9}),
            },
            {"a": 0.6, "b": 0.3, "c": 0.1},
        ),
    ],
    ids=["weights", "weights of some", "canary", "half a percent", "canary beside weights"],
)
def test_shares_are_as_the_override_says(
    over: dict[str, object], expected: dict[str, float]
) -> None:
    """Chi-square of 10 000 draws; the seed makes it the same each time. What explains them says the same."""
    among, draws = candidates(_route(_config(dict.fromkeys(expected, 1), **over))), random.Random(7)
    counts = Counter(
        str(getattr(drawn(among, draws.random()), "backend", None)) for _ in range(10_000)
    )

    chi_square = sum(
        (counts[name] - 1e4 * part) ** 2 / (1e4 * part) for name, part in expected.items()
    )
    assert set(counts) == set(expected)
    assert chi_square < _CHI_SQUARE_AT_P_0_001[len(expected) - 1]
    assert shares(among) == pytest.approx(expected)


@given(
    weights=st.dictionaries(st.sampled_from("abcd"), st.integers(0, 3), min_size=1),
    canary=st.sampled_from("abcd"),
    percent=st.sampled_from([0, 0.5, 25, 100]),
    gone=st.tuples(*[st.sets(st.sampled_from("abcd"))] * 3),
    draw=st.floats(0, 1, exclude_max=True),
)
def test_what_is_drawn_has_a_share(
    weights: dict[str, int], canary: str, percent: float, gone: tuple[set[str], ...], draw: float
) -> None:
    """Shares are whole, nobody is drawn who has none, and somebody is whenever one is left."""
    over = {"canary": Canary(backend=canary, percent=percent)} if canary in weights else {}
    among = candidates(_route(_config(weights, **over)), *gone)
    target = drawn(among, draw)

    assert (target is None) == (not shares(among))
    if target is not None:
        assert sum(shares(among).values()) == pytest.approx(1)
        assert shares(among)[target.backend] > 0


def test_a_canary_keeps_its_share_while_others_are_gone() -> None:
    """Of three backends one is left beside it, and then a fallback: both get all but the canary's part."""
    config = _config(
        {"a": 1, "b": 1, "spare": 0, "new": 1}, canary=Canary(backend="new", percent=10)
    )

    assert shares(candidates(_route(config), ("b",))) == pytest.approx({"a": 0.9, "new": 0.1})
    assert shares(candidates(_route(config), ("a", "b"))) == pytest.approx(
        {"spare": 0.9, "new": 0.1}
    )


def test_a_canary_that_cannot_be_called_costs_no_request() -> None:
    """The others get its share, and it gets theirs when no other is left."""
    config = _config({"a": 1, "new": 1}, canary=Canary(backend="new", percent=10))

    assert shares(candidates(_route(config), ("new",))) == {"a": 1}
    assert shares(candidates(_route(config), ("a",))) == {"new": 1}


def test_a_pin_leaves_one_backend_and_no_fallback() -> None:
    """When it cannot be called, nobody is."""
    route = _route(_config({"a": 1, "b": 1}, pin=Pin(backend="b")))

    assert _names(route) == ["b"]
    assert route.is_pinned
    assert drawn(candidates(route, ("b",)), 0.5) is None


def test_a_drained_backend_is_on_no_route() -> None:
    """Of any model, by whichever way it is drained."""
    config = _config({"a": 1, "b": 1}, {"a": Drain()})

    assert _names(_route(config)) == ["b"]
    assert is_drained("a", config, NOW_MS)
    assert not is_drained("b", config, NOW_MS)


def test_an_override_ends_on_the_millisecond() -> None:
    """By the clock of whoever asks, also of one that nobody deletes."""
    config = _config(
        {"a": 1, "b": 1},
        {"b": Drain(expires_at_ms=NOW_MS + 2)},
        pin=Pin(backend="b", expires_at_ms=NOW_MS + 1),
        canary=Canary(backend="b", percent=10, expires_at_ms=NOW_MS),
        timeout=Timeout(timeout_s=3, expires_at_ms=NOW_MS + 1),
    )

    assert _route(config) == Route((), is_pinned=True, timeout_s=3)
    assert _names(_route(config, NOW_MS + 1)) == ["a"]
    assert _route(config, NOW_MS + 2) == Route(config.models["echo"].backends, retries=RETRIES_MAX)


def _entry(kind: str, name: str, body: dict[str, object], version: int = 1) -> ConfigEntry:
    return ConfigEntry(
        kind=kind,
        id=name,
        version=version,
        body=json.dumps(body),
        written_at_ms=0,
        written_by="admin",
    )


def test_what_is_in_force_is_counted() -> None:
    """Each override of a route and each drain, as long as it has not ended."""
    config = _config(
        {"a": 1, "b": 1},
        {"a": Drain(), "b": Drain(expires_at_ms=NOW_MS + 1)},
        pin=Pin(backend="b", expires_at_ms=NOW_MS + 1),
        timeout=Timeout(timeout_s=3),
    )

    assert [in_force(config, NOW_MS), in_force(config, NOW_MS + 1)] == [4, 2]
    assert in_force(Snapshot(), NOW_MS) == 0


def _state(*overrides: tuple[str, str, dict[str, object]]) -> ConfigState:
    state = ConfigState()
    bodies: list[tuple[str, str, dict[str, object]]] = [
        ("backend", "a", {"url": "http://h/v1"}),
        ("backend", "b", {"url": "http://h/v1"}),
        ("backend", "c", {"url": "http://h/v1"}),
        ("model", "echo", {"backends": [{"backend": "a"}, {"backend": "b"}]}),
        *overrides,
    ]
    for offset, (kind, name, body) in enumerate(bodies):
        state.apply(_entry(kind, name, body), offset)
    return state


@pytest.mark.parametrize(
    ("kind", "name", "body"),
    [
        ("pin", "echo", {"backend": "c"}),
        ("pin", "echo", {"backend": "nowhere"}),
        ("pin", "other", {"backend": "a"}),
        ("weights", "echo", {"weights": {"a": 1, "c": 1}}),
        ("canary", "echo", {"backend": "c", "percent": 5}),
        ("timeout", "other", {"timeout_s": 5}),
        ("retries", "other", {"retries": 0}),
        ("drain", "nowhere", {}),
    ],
)
def test_an_override_of_what_is_not_there_is_out_of_force_alone(
    kind: str, name: str, body: dict[str, object]
) -> None:
    """It is named as a problem; the route stays, and so do its other overrides."""
    state = _state(("retries", "echo", {"retries": 0}), (kind, name, body))
    snapshot = state.snapshot()

    assert [problem.where for problem in snapshot.problems] == [f"{kind}/{name}"]
    route = route_at("echo", snapshot, NOW_MS)
    assert route == Route(snapshot.models["echo"].backends, retries=0)
    assert not snapshot.drains


def test_an_override_that_cannot_be_read_is_out_of_force_alone() -> None:
    """One that a newer version wrote, or nobody; the requests of its model go on."""
    snapshot = _state(
        ("pin", "echo", {"backend": "a", "planet": "earth"}), ("detour", "echo", {})
    ).snapshot()

    assert {problem.where for problem in snapshot.problems} == {"pin/echo", "detour/echo"}
    assert not snapshot.closes("acme", None, "key_a", None, "echo")
    assert route_at("echo", snapshot, NOW_MS) == Route(snapshot.models["echo"].backends)


def test_an_override_that_ended_can_be_forgotten() -> None:
    """Then it is no reason to keep what it names."""
    state = _state(("pin", "echo", {"backend": "c", "expires_at_ms": NOW_MS}))
    assert state.snapshot().problems

    state.forget_ended(NOW_MS)

    assert not state.snapshot().problems


def test_a_hold_covers_whichever_backend_an_override_chooses() -> None:
    """Also one that the declared weights never call: the bound is the worst case over the whole route."""
    dear = {"backend": "b", "weight": 0, "price_multiplier": "3"}
    model: dict[str, object] = {
        "backends": [{"backend": "a"}, dear],
        "input_usd_per_mtok": "1",
        "output_usd_per_mtok": "2",
    }
    state = _state(("canary", "echo", {"backend": "b", "percent": 50}))
    state.apply(_entry("model", "echo", model, version=2), 9)
    snapshot, counts = state.snapshot(), TokenCounts(input_tokens=100, output_tokens=50)
    route, price = route_at("echo", snapshot, NOW_MS), snapshot.prices["echo"].at(NOW_MS)
    assert route is not None
    assert price is not None

    costs = {name: cost(price, counts, None, name) for name in shares(candidates(route))}

    assert costs["b"] == 3 * costs["a"]
    assert bound(price, Reach(), 100, 50) >= max(costs.values())
