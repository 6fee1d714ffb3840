"""Which backend a request goes to: weighted random choice, then the others as fallbacks. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from typing import Final

from dispatcher.work import Choice
from schemas.config_state import Snapshot
from schemas.routes import Route, candidates, drawn, within

_RETRIES_MIN = 3
_CALLS_PER_RETRY = 5
_DRAINED: Final = "No backend of this model is in use: its operator has drained or closed them."
_PINNED: Final = "This model is pinned to one backend, which cannot be called now."


def choose(
    route: Route,
    config: Snapshot,
    excluded: Collection[str],
    draw: float,
    *,
    degraded: Collection[str] = (),
    full: Collection[str] = (),
) -> Choice | None:
    """One backend of the route by its share; ``None`` when none is left.

    ``draw`` is uniform in [0, 1); who is left, and at which share, ``schemas.routes`` says.
    """
    target = drawn(candidates(route, excluded, degraded, full), draw)
    if target is None:
        return None
    backend = config.backends[target.backend]
    if route.timeout_s is not None:
        backend = within(backend, route.timeout_s)
    return Choice(target.backend, backend, target.upstream_model, route.retries)


def why_none(route: Route | None) -> str | None:
    """What a client is told of a route on which no backend could be called; ``None`` where no operator's decision
    is the reason. It names no backend."""
    if route is None:
        return None
    if route.is_pinned:
        return _PINNED
    return None if route.targets else _DRAINED


def shared_backends(config: Snapshot) -> frozenset[str]:
    """Backends that more than one model leads to."""
    seen = Counter(
        name
        for model in config.models.values()
        for name in {target.backend for target in model.backends}
    )
    return frozenset(name for name, models in seen.items() if models > 1)


def may_retry(retries: int, calls: int) -> bool:
    """Whether one more second attempt may run beside ``retries`` of them among all ``calls``.

    A fifth of all calls and three: more would turn a backend's trouble into a storm on the others.
    """
    return retries < _RETRIES_MIN + calls // _CALLS_PER_RETRY
