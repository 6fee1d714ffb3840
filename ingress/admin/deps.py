"""What the routes of the control plane are given by its composition root."""

from __future__ import annotations

from dataclasses import dataclass

from ingress.admin.settings import AdminSettings
from schemas.runtime.config.feed import ConfigFeed
from schemas.runtime.kafka.produce import Producer
from schemas.runtime.process.clock import Clock
from schemas.runtime.valkey.store import Store


@dataclass(frozen=True, slots=True)
class AdminDeps:
    """The parts of the process that routes use; they start and stop none of them."""

    settings: AdminSettings
    config: ConfigFeed
    producer: Producer
    ledger_store: Store
    clock: Clock
