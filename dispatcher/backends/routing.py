"""Which backend a request goes to: weighted random choice, then the others as fallbacks. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence

from dispatcher.work import Choice
from schemas.config_state import Snapshot
from schemas.entities import Backend, Target

_RETRIES_MIN = 3
_CALLS_PER_RETRY = 5


def choose(
    model: str,
    config: Snapshot,
    excluded: Collection[str],
    draw: float,
    *,
    degraded: Collection[str] = (),
    full: Collection[str] = (),
) -> Choice | None:
    """One backend of the model's route by weight; ``None`` when none is left.

    ``draw`` is uniform in [0, 1). Drained backends and those in ``excluded`` are left out; one in
    ``degraded`` is used when all that are left are degraded. Of those, one that is ``full`` is left
    out, and a weight of 0 makes a backend a fallback that is used only when no other is left.
    """
    entity = config.models.get(model)
    if entity is None:
        return None
    usable = [t for t in entity.backends if _is_usable(t, config.backends, excluded)]
    sound = [t for t in usable if t.backend not in degraded] or usable
    free = [t for t in sound if t.backend not in full]
    weighted = [t for t in free if t.weight > 0] or free
    if not weighted:
        return None
    target = _draw(weighted, draw)
    return Choice(target.backend, config.backends[target.backend], target.upstream_model)


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


def _is_usable(target: Target, backends: Mapping[str, Backend], excluded: Collection[str]) -> bool:
    backend = backends.get(target.backend)
    return backend is not None and backend.state == "active" and target.backend not in excluded


def _draw(targets: Sequence[Target], draw: float) -> Target:
    """The target in whose share of the total weight ``draw`` falls; equal shares if all are 0."""
    weights = [target.weight for target in targets]
    if not any(weights):
        return targets[int(draw * len(targets))]
    point = draw * sum(weights)
    for target, weight in zip(targets, weights, strict=True):
        point -= weight
        if point < 0:
            return target
    return targets[-1]
