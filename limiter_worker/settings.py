"""Settings of the limiter."""

from __future__ import annotations

from pydantic import Field

from schemas.runtime.process.settings import BudgetServiceSettings, WorkerSettings


class LimiterSettings(BudgetServiceSettings, WorkerSettings):
    """What the limiter is told by its environment."""

    org_inflight_default: int = Field(default=256, ge=1)
    """Requests of one organization between admission and their end, where it states no concurrency."""
