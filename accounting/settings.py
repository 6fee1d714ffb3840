"""Settings of accounting."""

from __future__ import annotations

from schemas.runtime.process.settings import WorkerSettings


class AccountingSettings(WorkerSettings):
    """What accounting is told by its environment."""
