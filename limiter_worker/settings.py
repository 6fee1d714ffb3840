"""Settings of the limiter."""

from __future__ import annotations

from pydantic import AliasChoices, Field

from schemas.runtime.settings import WorkerSettings


class LimiterSettings(WorkerSettings):
    """What the limiter is told by its environment."""

    rate_limit_default_rps: float = Field(
        default=100.0,
        gt=0,
        validation_alias=AliasChoices("TALLYGATE_RATE_LIMIT_DEFAULT_RPS", "RATE_LIMIT_DEFAULT_RPS"),
    )
    """Requests per second of organizations and keys that state none."""
    rate_limit_burst_size: int = Field(
        default=200,
        ge=1,
        validation_alias=AliasChoices("TALLYGATE_RATE_LIMIT_BURST_SIZE", "RATE_LIMIT_BURST_SIZE"),
    )
    """How many of them may come at once."""
