"""What the public routes share, and whether anybody can be served at all at this moment."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from starlette.types import Scope

from ingress.auth.api_key import Caller, authenticate
from ingress.gatekeeper.body_budget import BodyBudget, BodyHold
from ingress.gatekeeper.gate import Gate
from ingress.health.conditions import UNPRODUCED_S, Conditions
from ingress.http.refusals import Refusal
from ingress.http.request_headers import announced_bytes
from ingress.replies.pending import PendingRequests
from ingress.requests.cancellations import Cancellations
from ingress.requests.claims import Claims
from ingress.requests.lookup import RequestLookup
from ingress.requests.publisher import RequestPublisher
from ingress.settings import IngressSettings
from schemas.errors import ErrorCode
from schemas.runtime.config.feed import ConfigFeed
from schemas.runtime.ledger.client import LedgerClient
from schemas.runtime.process.clock import Clock

_LOG_BEHIND_MS: Final = 2_000
_OPENS_WITHIN_S: Final = 5.0
"""A process that was just started is connected within moments."""


@dataclass(slots=True)
class Entered:
    """A request inside the gate: whose it is, its headers, and since when (monotonic)."""

    caller: Caller
    headers: Mapping[bytes, bytes]
    at_s: float
    room: BodyHold | None = None
    """What its body takes of the room for bodies, once that was given."""


@dataclass(slots=True)
class Intake:
    """What the routes of inference and jobs share."""

    settings: IngressSettings
    config: ConfigFeed
    pending: PendingRequests
    publisher: RequestPublisher
    ledger: LedgerClient
    lookup: RequestLookup
    claims: Claims
    cancellations: Cancellations
    clock: Clock
    gate: Gate
    conditions: Conditions
    bodies: BodyBudget
    is_open: bool = False
    """False until everything is connected, since an unread configuration knows no key; and again once
    this process gave up what it was doing."""
    _opened: asyncio.Event = field(default_factory=asyncio.Event)
    is_leaving: bool = False
    """Whether the process was told to end: answers tell their clients to connect elsewhere."""

    def open(self) -> None:
        """Everything is connected: let requests in."""
        self.is_open = True
        self._opened.set()

    def opening(self) -> Awaitable[None] | None:
        """What to wait for in a process that has just begun, because a balancer sends requests as soon
        as its port is there; ``None`` once the doors have been open."""
        return None if self.is_open or self._opened.is_set() else self._until_open()

    async def _until_open(self) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._opened.wait(), _OPENS_WITHIN_S)

    def refuse_now(self) -> Refusal | None:
        """Why nobody can be served at all at this moment."""
        if not self.is_open:
            return Refusal(
                ErrorCode.SERVICE_UNAVAILABLE, "The gateway is starting or being stopped."
            )
        return None

    def caller_now(self, headers: Mapping[bytes, bytes]) -> Caller | Refusal:
        """Who calls, if anybody can be served."""
        return self.refuse_now() or self.caller(headers)

    def enter(self, scope: Scope, *, is_background: bool = False) -> Entered | Refusal:
        """Who calls, once the gate has let the request in; it must ``leave``."""
        headers = dict(scope["headers"])
        caller = self.caller_now(headers)
        if isinstance(caller, Refusal):
            return caller
        request_id: str = scope["state"]["request_id"]
        body_bytes = announced_bytes(headers) or 0
        refusal = self._refuse_new(is_background=is_background)
        if refusal is not None:
            self.gate.tell(caller, request_id, refusal)
            return refusal
        refusal = self.gate.enter(caller, self.config.snapshot, request_id, body_bytes)
        return refusal or Entered(caller, headers, self.clock.monotonic_s())

    def _refuse_new(self, *, is_background: bool) -> Refusal | None:
        """Why nothing new is taken now, from anybody; background work may wait for the log."""
        for name, how in self.closing().items():
            message = f"The gateway takes no requests now ({name}: {how})."
            return Refusal(ErrorCode.SERVICE_UNAVAILABLE, message)
        if self.pending.unproduced_s > UNPRODUCED_S and not is_background:
            return Refusal(
                ErrorCode.OVERLOADED, "The log is behind.", retry_after_ms=_LOG_BEHIND_MS
            )
        return None

    def closing(self) -> dict[str, str]:
        """What keeps every new request out now, by name."""
        return self.conditions.closing(self.config.behind_s)

    def leave(self, entered: Entered) -> None:
        """The request has been answered, or its client is gone."""
        self.gate.leave(entered.caller, entered.at_s)
        if entered.room is not None:
            entered.room.release()

    def caller(self, headers: Mapping[bytes, bytes]) -> Caller | Refusal:
        """Who calls; 401 without a valid key."""
        pepper = self.settings.key_pepper.get_secret_value().encode()
        return authenticate(headers, self.config.snapshot, pepper, self.clock.now_ms())
