"""What the public routes share, and whether anybody can be served at all at this moment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ingress.auth import Caller, authenticate
from ingress.cancellations import Cancellations
from ingress.claims import Claims
from ingress.placement import Placement
from ingress.recollection import Recollection
from ingress.refusals import Refusal
from ingress.settings import IngressSettings
from ingress.waiters import Waiters
from schemas.errors import ErrorCode
from schemas.runtime.clock import Clock
from schemas.runtime.config import ConfigFeed
from schemas.runtime.ledger.client import LedgerClient


@dataclass(slots=True)
class Intake:
    """What the routes of inference and jobs share."""

    settings: IngressSettings
    config: ConfigFeed
    waiters: Waiters
    placement: Placement
    ledger: LedgerClient
    recollection: Recollection
    claims: Claims
    cancellations: Cancellations
    clock: Clock
    is_open: bool = False
    """False until everything is connected: an unread configuration knows no key."""
    active: int = 0

    def refuse_now(self) -> Refusal | None:
        """Why no request can be taken at all at this moment."""
        if not self.is_open:
            return Refusal(ErrorCode.SERVICE_UNAVAILABLE, "The gateway is starting.")
        if self.active >= self.settings.inflight_max:
            return Refusal(ErrorCode.OVERLOADED, "The gateway is full.")
        return None

    def caller_now(self, headers: Mapping[bytes, bytes]) -> Caller | Refusal:
        """Who calls, if anybody can be served."""
        return self.refuse_now() or self.caller(headers)

    def caller(self, headers: Mapping[bytes, bytes]) -> Caller | Refusal:
        """Who calls; 401 without a valid key."""
        pepper = self.settings.key_pepper.get_secret_value().encode()
        return authenticate(headers, self.config.snapshot, pepper, self.clock.now_ms())
