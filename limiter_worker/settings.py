"""Settings of the limiter."""

from __future__ import annotations

from schemas.runtime.settings import WorkerSettings


class LimiterSettings(WorkerSettings):
    """What the limiter is told by its environment."""
