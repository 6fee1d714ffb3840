"""What the admin API is given by the composition root of ingress."""

from __future__ import annotations

from dataclasses import dataclass

from ingress.settings import IngressSettings
from schemas.runtime.config.feed import ConfigFeed
from schemas.runtime.kafka.produce import Producer
from schemas.runtime.process.clock import Clock
from schemas.runtime.valkey.store import StoreConnection


@dataclass(frozen=True, slots=True)
class AdminDeps:
    """The parts of a running ingress that the admin API uses; it starts and stops none of them."""

    settings: IngressSettings
    config: ConfigFeed
    producer: Producer
    ledger_store: StoreConnection
    clock: Clock
