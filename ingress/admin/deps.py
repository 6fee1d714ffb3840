"""What the routes of the control plane are given by its composition root."""

from __future__ import annotations

from dataclasses import dataclass

from ingress.admin.settings import AdminSettings
from schemas.config_signing import Signer
from schemas.ledger.shards import Shards
from schemas.runtime.config.feed import ConfigFeed
from schemas.runtime.kafka.produce import Producer
from schemas.runtime.process.clock import Clock
from schemas.runtime.valkey.store import Store
from schemas.topics import OUTCOMES


@dataclass(frozen=True, slots=True)
class AdminDeps:
    """The parts of the process that routes use; they start and stop none of them."""

    settings: AdminSettings
    config: ConfigFeed
    producer: Producer
    ledger_store: Store
    clock: Clock

    @property
    def signer(self) -> Signer | None:
        """Whoever signs what is written into the configuration."""
        return self.settings.config_signer

    @property
    def shards(self) -> Shards:
        """All shards of the ledger. Raises ``ProduceFailed`` before the broker was reached."""
        return Shards(self.producer.partitions(OUTCOMES))
