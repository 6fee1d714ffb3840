"""A model's route as it is at one moment: what was declared, and what operators put over it. Pure.

The dispatcher draws by it, and the control plane and health explain by it; there is no second reading. Only
backends of the declared route are ever called, so a request's hold, which is the worst case over that route, covers
whatever an override says.
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Sequence
from typing import Final

import msgspec

from schemas.config_state import Snapshot
from schemas.entities import Backend, Target
from schemas.overrides import Weights

__all__ = [
    "RETRIES_MAX",
    "Candidates",
    "Route",
    "candidates",
    "drawn",
    "in_force",
    "is_drained",
    "route_at",
    "shares",
    "within",
]

RETRIES_MAX: Final = 1
"""A request is called twice at most."""


class Route(msgspec.Struct, frozen=True):
    """Who may be called for a model, and within what."""

    targets: tuple[Target, ...]
    """At the weights in force; without those that are drained, and only the pinned one where one is."""
    is_pinned: bool = False
    canary: str | None = None
    canary_share: float = 0.0
    """The part of requests that the canary gets, 0 to 1."""
    timeout_s: float | None = None
    """Instead of what backends state."""
    retries: int = RETRIES_MAX


class Candidates(msgspec.Struct, frozen=True):
    """Who is drawn from for one call."""

    others: Sequence[Target]
    """By weight; equal shares where all weights are 0."""
    canary: Target | None = None
    canary_share: float = 0.0


def route_at(model: str, config: Snapshot, now_ms: int) -> Route | None:
    """The route of a model at this time; ``None`` for a model that does not exist."""
    entity = config.models.get(model)
    if entity is None:
        return None
    overrides = config.overrides.get(model)
    if overrides is None:
        return Route(_undrained(entity.backends, config, now_ms))
    overrides = overrides.at(now_ms)
    targets: Sequence[Target] = entity.backends
    if overrides.weights is not None:
        targets = [_weighted(target, overrides.weights) for target in targets]
    if (pin := overrides.pin) is not None:
        targets = [target for target in targets if target.backend == pin.backend]
    return Route(
        _undrained(targets, config, now_ms),
        is_pinned=pin is not None,
        canary=overrides.canary.backend if overrides.canary else None,
        canary_share=overrides.canary.percent / 100 if overrides.canary else 0.0,
        timeout_s=overrides.timeout.timeout_s if overrides.timeout else None,
        retries=overrides.retries.retries if overrides.retries else RETRIES_MAX,
    )


def is_drained(backend: str, config: Snapshot, now_ms: int) -> bool:
    """Whether a backend gets nothing new: declared so, drained by an operator, or not there."""
    declared = config.backends.get(backend)
    if declared is None or declared.state != "active":
        return True
    drain = config.drains.get(backend)
    return drain is not None and not drain.has_ended(now_ms)


def in_force(config: Snapshot, now_ms: int) -> int:
    """How many overrides hold at this time."""
    routes = (over.at(now_ms) for over in config.overrides.values())
    of_routes = sum(over is not None for route in routes for over in msgspec.structs.astuple(route))
    return of_routes + sum(not drain.has_ended(now_ms) for drain in config.drains.values())


def candidates(
    route: Route,
    excluded: Collection[str] = (),
    degraded: Collection[str] = (),
    full: Collection[str] = (),
) -> Candidates:
    """Who is left of a route for one call.

    Those in ``excluded`` are left out; one in ``degraded`` is used when all that are left are degraded. Of those,
    one that is ``full`` is left out, and a weight of 0 makes a backend a fallback for when no other is left. A
    canary never gets more than its share while any other is left, fallbacks included.
    """
    targets = route.targets
    usable = [t for t in targets if t.backend not in excluded] if excluded else targets
    sound = ([t for t in usable if t.backend not in degraded] or usable) if degraded else usable
    free = [t for t in sound if t.backend not in full] if full else sound
    canary = None
    if route.canary is not None:
        canary = next((t for t in free if t.backend == route.canary), None)
        free = [t for t in free if t is not canary] or free
    others = [t for t in free if t.weight > 0] or free
    if canary is None or canary in others:
        return Candidates(others)
    return Candidates(others, canary, route.canary_share)


def drawn(among: Candidates, draw: float) -> Target | None:
    """The target in whose share ``draw`` falls, which is uniform in [0, 1); ``None`` when none is left."""
    targets = among.others
    if among.canary is not None:
        if draw < among.canary_share:
            return among.canary
        draw = (draw - among.canary_share) / (1 - among.canary_share)
    if not targets:
        return None
    weights = [target.weight for target in targets]
    if not any(weights):
        return targets[min(int(draw * len(targets)), len(targets) - 1)]
    point = draw * sum(weights)
    for target, weight in zip(targets, weights, strict=True):
        point -= weight
        if point < 0:
            return target
    return targets[-1]


def shares(among: Candidates) -> dict[str, float]:
    """What part of the calls each backend is drawn for."""
    total = sum(target.weight for target in among.others)
    rest = 1.0 if among.canary is None else 1 - among.canary_share
    found = {
        target.backend: rest * (target.weight / total if total else 1 / len(among.others))
        for target in among.others
    }
    return found if among.canary is None else found | {among.canary.backend: among.canary_share}


@functools.lru_cache(maxsize=1_024)
def within(backend: Backend, timeout_s: float) -> Backend:
    """The backend with the timeout of a route: of whole answers, and of the silence of streams."""
    return msgspec.structs.replace(backend, timeout_s=timeout_s, idle_timeout_s=None)


def _undrained(targets: Sequence[Target], config: Snapshot, now_ms: int) -> tuple[Target, ...]:
    return tuple(t for t in targets if not is_drained(t.backend, config, now_ms))


def _weighted(target: Target, over: Weights) -> Target:
    weight = over.weights.get(target.backend)
    return target if weight is None else msgspec.structs.replace(target, weight=weight)
