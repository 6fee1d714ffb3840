"""The paths of the public API: which surface each belongs to, and its name in metrics. Pure."""

from __future__ import annotations

from typing import Final

from ingress.refusals import Surface

CHAT_COMPLETIONS: Final = "/v1/chat/completions"
INFERENCE: Final = "/v1/inference"
MODELS: Final = "/v1/models"
HEALTHZ: Final = "/v1/status/healthz"
READYZ: Final = "/v1/status/readyz"
METRICS: Final = "/metrics"

_NATIVE: Final = (INFERENCE, "/v1/status", "/v1/jobs")
_ROUTES: Final = {
    CHAT_COMPLETIONS: "chat.completions",
    INFERENCE: "inference",
    MODELS: "models",
    HEALTHZ: "status",
    READYZ: "status",
    METRICS: "metrics",
}


def route_of(path: str) -> str:
    """The route's name, from a bounded set."""
    if path.startswith(f"{MODELS}/"):
        return _ROUTES[MODELS]
    return _ROUTES.get(path, "other")


def surface_of(path: str) -> Surface:
    """How errors are written under a path."""
    return "native" if path.startswith(_NATIVE) else "openai"
