"""Settings of accounting."""

from __future__ import annotations

from pydantic import SecretStr, field_validator, model_validator

from schemas.config_signing import Signer
from schemas.runtime.process.settings import BudgetServiceSettings, WorkerSettings, signer_of
from schemas.thresholds import Percents, read_percents


class AccountingSettings(BudgetServiceSettings, WorkerSettings):
    """What accounting is told by its environment."""

    config_signing_key: SecretStr | None = None
    """Private key that signs what this process writes into the configuration: epochs of the ledger's shards."""
    thresholds_percent: str = "50,80,100"
    """Percentages of budgets and quotas at which an audit event tells of it, where neither the limits nor their
    organization say others; none when empty."""

    @property
    def config_signer(self) -> Signer | None:
        """Whoever signs what is written here; ``None`` where nothing is signed."""
        return signer_of("accounting", self.config_signing_key, self.config_verify_keys)

    @model_validator(mode="after")
    def _can_sign(self) -> AccountingSettings:
        _ = self.config_signer
        return self

    @field_validator("thresholds_percent")
    @classmethod
    def _are_percentages(cls, listed: str) -> str:
        read_percents(listed)
        return listed

    @property
    def thresholds(self) -> Percents:
        """The percentages, in order."""
        return read_percents(self.thresholds_percent)
