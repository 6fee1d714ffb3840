"""Settings of the limiter."""

from __future__ import annotations

from schemas.runtime.process.settings import BudgetServiceSettings, WorkerSettings


class LimiterSettings(BudgetServiceSettings, WorkerSettings):
    """What the limiter is told by its environment."""
