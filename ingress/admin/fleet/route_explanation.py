"""What a request for a model would do now, and why, step by step: from the configuration, and from what each
dispatcher last said of the backends. Pure.

The route and its shares are those that dispatchers draw by (``schemas.routes``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, TypedDict

from schemas.config_state import Snapshot
from schemas.entities import Key, Model, Target
from schemas.errors import ErrorCode
from schemas.reports import BackendReport, LaneReport
from schemas.routes import Route, candidates, is_drained, route_at, shares

__all__ = ["RouteExplanation", "Seen", "explained"]

_IDLE: Final = LaneReport("closed", 0, 0)
_MINUTE_S: Final = 60
_WAITS: Final = "all are full: a request waits for a slot, 5 s at most"
_NO_BACKEND: Final = "nobody can be called: 503 no_backend_available"


@dataclass(frozen=True, slots=True)
class Seen:
    """What one dispatcher last said."""

    instance: str
    offset: int
    """Of the configuration that it goes by."""
    age_ms: int | None
    """Of its last report of backends."""
    backends: Mapping[str, BackendReport]


class DispatcherShown(TypedDict):
    """What one dispatcher would do with the next request; `refused` is the code with which it would end."""

    instance: str
    offset: int
    age_ms: int | None
    shares: dict[str, float]
    refused: ErrorCode | None
    steps: list[str]


class RouteExplanation(TypedDict):
    """What a request for the model would do now, step by step."""

    model: str
    now_ms: int
    steps: list[str]
    refused: ErrorCode | None
    dispatchers: list[DispatcherShown]


def explained(
    name: str,
    config: Snapshot,
    overrides: Sequence[Mapping[str, Any]],
    dispatchers: Sequence[Seen],
    now_ms: int,
    caller: tuple[str, Key] | None = None,
) -> RouteExplanation:
    """The steps in their order, and for each dispatcher where it would call; the model must exist."""
    model, steps = config.models[name], list[str]()
    if caller is not None:
        told, code = _caller_step(caller, name, now_ms)
        steps.append(told)
        if code is not None:
            return _explanation(name, now_ms, [f"{told}: {code}"], code, [])
    route = route_at(name, config, now_ms) or Route(())
    steps += [f"declared: {_targets_text(model.backends)}"]
    steps += [_override_text(each, now_ms) for each in overrides if _is_about(each, name, model)]
    steps += _route_steps(route, model, config, now_ms)
    seen = [_dispatcher(each, name, route, config) for each in dispatchers]
    if not seen:
        steps.append("no dispatcher reports: a request waits for one until its deadline")
    return _explanation(name, now_ms, steps, None, seen)


def _explanation(
    model: str,
    now_ms: int,
    steps: list[str],
    refused: ErrorCode | None,
    dispatchers: list[DispatcherShown],
) -> RouteExplanation:
    return {
        "model": model,
        "now_ms": now_ms,
        "steps": steps,
        "refused": refused,
        "dispatchers": dispatchers,
    }


def _caller_step(caller: tuple[str, Key], model: str, now_ms: int) -> tuple[str, ErrorCode | None]:
    name, key = caller
    if key.revoked_at_ms is not None:
        return f"key {name} is revoked", ErrorCode.INVALID_API_KEY
    if key.expires_at_ms is not None and key.expires_at_ms <= now_ms:
        return f"key {name} expired {_time(key.expires_at_ms)}", ErrorCode.INVALID_API_KEY
    if key.models is not None and model not in key.models:
        return f"key {name} may not use the model", ErrorCode.MODEL_NOT_FOUND
    return (
        f"key {name} of {key.org} may use the model; its scopes, networks and limits decide next",
        None,
    )


def _targets_text(targets: Sequence[Target]) -> str:
    return ", ".join(f"{target.backend}={target.weight}" for target in targets) or "nobody"


def _is_about(override: Mapping[str, Any], name: str, model: Model) -> bool:
    if override["kind"] == "drain":
        return any(target.backend == override["id"] for target in model.backends)
    return bool(override["id"] == name)


def _override_text(override: Mapping[str, Any], now_ms: int) -> str:
    """One override, until when, by whom and why; and why not, where it is out of force."""
    text = f"override: {override['kind']}/{override['id']} {override['what']}"
    if not override["in_force"]:
        return f"{text}: out of force, {override['why_not']}"
    end_ms = override["expires_at_ms"]
    until = (
        "until it is restored"
        if end_ms is None
        else f"until {_time(end_ms)}, {_left(end_ms - now_ms)} left"
    )
    why = f": {override['reason']}" if override["reason"] else ""
    return f"{text}, {until}, by {override['by']}{why}"


def _route_steps(route: Route, model: Model, config: Snapshot, now_ms: int) -> Iterator[str]:
    drained = [t.backend for t in model.backends if is_drained(t.backend, config, now_ms)]
    if drained:
        yield f"drained: {', '.join(drained)}"
    yield f"may be called: {_targets_text(route.targets)}"
    if route.canary is not None and not route.is_pinned:
        yield f"canary: {route.canary} gets {100 * route.canary_share:g} %, the others share the rest by weight"
    if route.timeout_s is not None:
        yield f"timeout: {route.timeout_s:g} s for an answer, or of silence in a stream"
    yield (
        "after a failure before the first byte: "
        + ("another backend that may be called, once" if route.retries else "nobody else is called")
    )


def _dispatcher(seen: Seen, model: str, route: Route, config: Snapshot) -> DispatcherShown:
    """What this dispatcher would do with the next request."""
    views = [_view(target, model, seen.backends.get(target.backend)) for target in route.targets]
    excluded, degraded, full = (
        {view.backend for view in views if getattr(view, what)}
        for what in ("is_open", "is_degraded", "is_full")
    )
    chosen = shares(candidates(route, excluded, degraded, full))
    steps = [
        f"{view.backend}: {_share_text(chosen.get(view.backend))} ({', '.join(view.facts)})"
        for view in views
    ]
    if (behind := config.offset - seen.offset) > 0:
        steps.insert(0, f"it goes by the configuration of offset {seen.offset}, {behind} behind")
    end = None
    if not chosen:
        waits = bool(shares(candidates(route, excluded, degraded)))
        steps.append(_WAITS if waits else _NO_BACKEND)
        end = ErrorCode.OVERLOADED if waits else ErrorCode.NO_BACKEND
    return {
        "instance": seen.instance,
        "offset": seen.offset,
        "age_ms": seen.age_ms,
        "shares": chosen,
        "refused": end,
        "steps": steps,
    }


@dataclass(frozen=True, slots=True)
class _View:
    """One backend for one model, as a dispatcher sees it."""

    backend: str
    facts: tuple[str, ...]
    is_open: bool = False
    is_degraded: bool = False
    is_full: bool = False


def _view(target: Target, model: str, report: BackendReport | None) -> _View:
    if report is None:
        return _View(target.backend, ("nothing is known of it yet", f"weight {target.weight}"))
    lane = report.lanes.get(model, _IDLE)
    breakers = {"of the backend": report.breaker, "of the model there": lane.breaker}
    facts = [f"weight {target.weight}"]
    facts += [f"breaker {whose} {state}" for whose, state in breakers.items() if state != "closed"]
    facts += [] if report.is_alive else ["probes fail: last choice"]
    facts += [f"{report.inflight} of {report.limit} calls under way"]
    if lane.inflight:
        facts.append(f"{lane.inflight} of {lane.limit} for the model")
    if waiting := report.queued.get(model):
        facts.append(f"{waiting} requests of the model wait")
    return _View(
        target.backend,
        tuple(facts),
        is_open="open" in breakers.values(),
        is_degraded=not report.is_alive,
        is_full=0 < report.limit <= report.inflight or 0 < lane.limit <= lane.inflight,
    )


def _share_text(share: float | None) -> str:
    return "is not called" if not share else f"gets {100 * share:.4g} %"


def _time(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _left(span_ms: int) -> str:
    """A span for people: its two largest units."""
    seconds = max(0, span_ms) // 1_000
    for unit, size, below, smaller in (("d", 86_400, "h", 3_600), ("h", 3_600, "min", 60)):
        if seconds >= size:
            return f"{seconds // size} {unit} {seconds % size // smaller} {below}"
    return f"{seconds // 60} min {seconds % 60} s" if seconds >= _MINUTE_S else f"{seconds} s"
