"""The paths of the public API: which surface each belongs to, and its name in metrics. Pure."""

from __future__ import annotations

from typing import Final

from ingress.http.refusals import Surface

CHAT_COMPLETIONS: Final = "/v1/chat/completions"
INFERENCE: Final = "/v1/inference"
JOBS: Final = "/v1/jobs"
MODELS: Final = "/v1/models"
HEALTHZ: Final = "/v1/status/healthz"
READYZ: Final = "/v1/status/readyz"
STARTUPZ: Final = "/v1/status/startupz"
METRICS: Final = "/metrics"

_NATIVE: Final = (INFERENCE, "/v1/status", JOBS)
_ROUTES: Final = {
    CHAT_COMPLETIONS: "chat.completions",
    INFERENCE: "inference",
    JOBS: "jobs",
    MODELS: "models",
    HEALTHZ: "status",
    READYZ: "status",
    STARTUPZ: "status",
    METRICS: "metrics",
}


def route_of(path: str) -> str:
    """The route's name, from a bounded set."""
    for parent in (MODELS, JOBS):
        if path.startswith(f"{parent}/"):
            return _ROUTES[parent]
    return _ROUTES.get(path, "other")


def surface_of(path: str) -> Surface:
    """How errors are written under a path."""
    return "native" if path.startswith(_NATIVE) else "openai"


def job_path(job_id: str) -> str:
    """Where a job is found."""
    return f"{JOBS}/{job_id}"
