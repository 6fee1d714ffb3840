"""The paths of the public API: which surface each belongs to, and its operation in metrics. Pure.

Those of operations follow from their table; the others stand here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from schemas import readiness
from schemas.api_pages import API_PATHS
from schemas.operations import JOBS, MESSAGES, OPERATIONS, RESPONSES, Surface

MODELS: Final = "/v1/models"
COUNT_TOKENS: Final = f"{MESSAGES.path}/count_tokens"
LIMITS: Final = "/v1/limits"
USAGE: Final = "/v1/usage"
ORGANIZATION_USAGE: Final = "/v1/organization/usage"
COMPLETIONS_USAGE: Final = f"{ORGANIZATION_USAGE}/completions"
COSTS: Final = "/v1/organization/costs"
REQUESTS: Final = "/v1/requests"
EVENTS: Final = "events"
"""The last part of a path below that of a request."""
FILES: Final = "/v1/files"
BATCHES: Final = "/v1/batches"
HEALTHZ: Final = readiness.HEALTHZ
READYZ: Final = readiness.READYZ
STARTUPZ: Final = readiness.STARTUPZ
METRICS: Final = readiness.METRICS

_SEGMENTS: Final = 3
"""Of a path that others stand below, such as that of a job: the empty one, the version, the name."""


class Place(NamedTuple):
    """What is known of a path."""

    operation: str
    """Its label in metrics: of the table of operations, or of the few that are none."""
    surface: Surface


_STATUS: Final = Place("status", "native")
_ORGANIZATION: Final = Place("usage", "openai")
_ELSEWHERE: Final = Place("other", "openai")
OF_MODELS: Final = Place("models", "openai")
_OF_MODELS_TO_ANTHROPIC: Final = Place("models", "anthropic")
_ANTHROPIC_VERSION: Final = b"anthropic-version"
"""The header that Anthropic's API demands, and that nobody else sends."""
PLACES: Final = {
    **{row.path: Place(row.name, row.surface) for row in OPERATIONS.values()},
    COUNT_TOKENS: Place("count_tokens", MESSAGES.surface),
    MODELS: OF_MODELS,
    LIMITS: Place("limits", "native"),
    USAGE: Place("usage", "native"),
    COMPLETIONS_USAGE: _ORGANIZATION,
    COSTS: _ORGANIZATION,
    REQUESTS: Place("requests", "native"),
    FILES: Place("files", "openai"),
    BATCHES: Place("batches", "openai"),
    HEALTHZ: _STATUS,
    READYZ: _STATUS,
    STARTUPZ: _STATUS,
    METRICS: Place("metrics", "openai"),
    **dict.fromkeys(API_PATHS, Place("docs", "native")),
}
_PARENTS: Final = {
    **{path: place for path, place in PLACES.items() if path.count("/") == _SEGMENTS - 1},
    "/v1/status": Place("other", "native"),
    ORGANIZATION_USAGE: _ORGANIZATION,
}


def place_of(path: str) -> Place:
    """What is known of any path."""
    known = PLACES.get(path)
    if known is None:
        parent = "/".join(path.split("/", _SEGMENTS)[:_SEGMENTS])
        known = _PARENTS.get(parent, _ELSEWHERE)
    return known


def place_of_request(scope: Mapping[str, Any]) -> Place:
    """What is known of the path of a request; models are told to each client in the terms of its own SDK."""
    place = place_of(scope["path"])
    if place is OF_MODELS and any(name == _ANTHROPIC_VERSION for name, _ in scope["headers"]):
        return _OF_MODELS_TO_ANTHROPIC
    return place


def surface_of(path: str) -> Surface:
    """How errors are written under a path, with a query or without."""
    return place_of(path.partition("?")[0]).surface


def route_of(path: str) -> str | None:
    """The template of a path that is served; ``None`` of any other."""
    if path in PLACES:
        return path
    parent, _, rest = path.rpartition("/")
    if rest == EVENTS and parent.startswith(f"{REQUESTS}/"):
        return events_path("{id}")
    return f"{parent}/{{id}}" if rest and parent in _PARENTS else None


def request_path(request_id: str) -> str:
    """Where a request is told of."""
    return f"{REQUESTS}/{request_id}"


def events_path(request_id: str) -> str:
    """Where the records of a request are told."""
    return f"{request_path(request_id)}/{EVENTS}"


def job_path(job_id: str) -> str:
    """Where a job is found."""
    return f"{JOBS.path}/{job_id}"


def response_path(response_id: str) -> str:
    """Where a response is found."""
    return f"{RESPONSES.path}/{response_id}"


def cancel_path(response_id: str) -> str:
    """Where it is cancelled."""
    return f"{response_path(response_id)}/cancel"
