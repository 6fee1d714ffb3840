"""Settings of accounting."""

from __future__ import annotations

from pydantic import field_validator

from schemas.runtime.process.settings import WorkerSettings
from schemas.thresholds import Percents, read_percents


class AccountingSettings(WorkerSettings):
    """What accounting is told by its environment."""

    thresholds_percent: str = "50,80,100"
    """Percentages of budgets and quotas at which an audit event tells of it, where neither the limits nor their
    organization say others; none when empty."""

    @field_validator("thresholds_percent")
    @classmethod
    def _are_percentages(cls, listed: str) -> str:
        read_percents(listed)
        return listed

    @property
    def thresholds(self) -> Percents:
        """The percentages, in order."""
        return read_percents(self.thresholds_percent)
