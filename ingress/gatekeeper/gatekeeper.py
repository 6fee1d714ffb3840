"""The gatekeeper: whether ingress is open, who calls, and what is refused before the log.

A flood costs its own organization and not the log. Before the body is read: whether anything new is taken at
all, a local bucket of requests and of bytes, a share of ingress per organization. Before the log stands the *log gate*.
All of it are look-ups in memory; every refusal of a known caller is told to the auditors.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

from starlette.types import Receive

from ingress.auth.caller import Caller
from ingress.auth.callers import TOLD, Callers, Told
from ingress.auth.restrictions import NeededScope, refuse_use
from ingress.auth.signature import Unproven, sha256_of
from ingress.gatekeeper.bodies import BodyBudget, BodyHold, most_bytes, read_body
from ingress.gatekeeper.large_turns import LARGE_BODY_BYTES, LargeTurns
from ingress.gatekeeper.local_limits import LocalLimits, Shares
from ingress.gatekeeper.log_gate import Conditions, LogGate
from ingress.gatekeeper.signatures import Signatures
from ingress.http.refusals import Refusal
from ingress.http.request import announced_bytes, credentials_of
from ingress.settings import IngressSettings
from schemas.errors import ErrorCode
from schemas.events import Denial
from schemas.operations import Operation
from schemas.runtime.config.feed import ConfigFeed
from schemas.runtime.process.clock import Clock
from schemas.runtime.process.telemetry import Metrics
from schemas.times import PRODUCE_WITHIN_MS

UNPRODUCED_S: Final = 2.0
"""How old an unacknowledged record may be until the log counts as behind."""
_LOG_AWAY_S: Final = PRODUCE_WITHIN_MS / 1_000
"""How old it may be until work that may wait for the log is not taken either: it would wait in vain."""
_LOG_BEHIND_MS: Final = 2_000
_OPENS_WITHIN_S: Final = 5.0
"""A process that was just started is connected within moments."""


@dataclass(slots=True)
class Entered:
    """A request inside the gate: whose it is, and since when (monotonic)."""

    caller: Caller
    at_s: float
    announced_bytes: int | None
    """Of its body, where the client says it beforehand."""
    unproven: Unproven | None = None
    """What the body has to prove before anybody reads it."""
    room: BodyHold | None = None
    """What its body takes of the room for bodies, once that was given."""
    is_flex: bool = False
    """Whether it waits for room, and counts as one of those."""


@dataclass(slots=True, kw_only=True)
class Gatekeeper(LogGate):
    """Opens, lets in, refuses, counts, and learns from answers."""

    unproduced_s: Callable[[], float]
    """Age of the oldest record that the broker has not acknowledged. It grows until one is, whether its
    client still waits or not, so that an outage is felt once and not by every tenth second's clients."""
    callers: Callers
    signatures: Signatures
    limits: LocalLimits
    shares: Shares
    bodies: BodyBudget
    body_bytes_max: int
    """Of one body."""
    large: LargeTurns = field(default_factory=LargeTurns)
    proxies: tuple[str, ...] = ()
    """Networks of proxies that are believed who they forward for."""
    is_open: bool = False
    """False until everything is connected, since an unread configuration knows no key; and again once
    this process gave up what it was doing."""
    is_leaving: bool = False
    """Whether the process was told to end: answers tell their clients to connect elsewhere."""
    _opened: asyncio.Event = field(default_factory=asyncio.Event)

    @classmethod
    def create(
        cls,
        settings: IngressSettings,
        config: ConfigFeed,
        clock: Clock,
        conditions: Conditions,
        unproduced_s: Callable[[], float],
        callers: Callers,
        signatures: Signatures,
        metrics: Metrics,
    ) -> Gatekeeper:
        """The gatekeeper of one ingress; its doors are closed."""
        limits = LocalLimits(
            settings.rate_limit_default_rps,
            settings.rate_limit_burst_size,
            settings.key_bytes_per_s,
        )
        return cls(
            config=config,
            clock=clock,
            conditions=conditions,
            unproduced_s=unproduced_s,
            callers=callers,
            signatures=signatures,
            metrics=metrics,
            limits=limits,
            shares=Shares(settings.inflight_max, settings.org_share),
            bodies=BodyBudget(settings.body_bytes_max),
            body_bytes_max=settings.max_body_bytes,
            proxies=settings.proxies,
        )

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

    def bounds_reached(self) -> dict[str, str]:
        """Bounds at which some requests are refused now, and how they are reached."""
        return self.shares.bounds_reached() | self.bodies.bounds_reached()

    def tell(
        self, head: Mapping[str, Any], headers: Mapping[bytes, bytes]
    ) -> Told | Awaitable[Told]:
        """Who calls, if anybody can be served; 401 without valid credentials. What is no API key may have to be waited
        for."""
        if not self.is_open:
            return Refusal(
                ErrorCode.SERVICE_UNAVAILABLE, "The gateway is starting or being stopped."
            )
        credentials = credentials_of(head, headers)
        snapshot, now_ms = self.config.snapshot, self.clock.now_ms()
        told = self.callers.keys.tell(credentials, snapshot, now_ms)
        return told or self.callers.ask_others(credentials, snapshot, now_ms)

    async def caller(
        self, head: Mapping[str, Any], scope: NeededScope, body: bytes = b""
    ) -> Caller | Refusal:
        """Who calls, if it may do what needs the scope, where nothing is told from the body; as ``tell``."""
        told = await self.uploading(head, scope)
        if isinstance(told, Unproven):
            request_id = head["state"]["request_id"]
            return await self.prove(told, sha256_of(body), request_id) or told.caller
        return told

    async def uploading(
        self, head: Mapping[str, Any], scope: NeededScope
    ) -> Caller | Unproven | Refusal:
        """Who calls with a body that is judged while it comes, if it may; what is unproven is to be proved behind it."""
        asked = self.tell(head, dict(head["headers"]))
        told = asked if isinstance(asked, TOLD) else await asked
        if isinstance(told, Refusal):
            return told
        caller = told if isinstance(told, Caller) else told.caller
        head["state"]["caller"] = caller
        refusal = self._forbidden(caller, head, scope)
        if refusal is not None:
            self.tell_auditors(caller, head["state"]["request_id"], refusal)
        return refusal or told

    async def prove(self, unproven: Unproven, sha256: str, request_id: str) -> Refusal | None:
        """Why a request is not what the owner of its key signed, by the hexadecimal digest of its body."""
        refusal = await self.signatures.refuse(unproven, sha256, self.clock.now_ms())
        if refusal is not None:
            self.tell_auditors(unproven.caller, request_id, refusal)
        return refusal

    def _forbidden(
        self, caller: Caller, head: Mapping[str, Any], scope: NeededScope
    ) -> Refusal | None:
        """Why the caller may not do this, which of most callers is not asked."""
        if caller.scopes is None and caller.networks is None:
            return None
        return refuse_use(caller, scope, head, self.proxies)

    def enter(
        self,
        told: Caller | Unproven,
        operation: Operation,
        head: Mapping[str, Any],
        headers: Mapping[bytes, bytes],
        request_id: str,
    ) -> Entered | Refusal:
        """Let a caller in, who must ``leave``."""
        caller, unproven = (told, None) if isinstance(told, Caller) else (told.caller, told)
        head["state"]["caller"] = caller
        now_s, announced = self.clock.monotonic_s(), announced_bytes(headers)
        refusal = (
            self._forbidden(caller, head, operation.scope)
            # What is kept anyway may wait for a log that is behind.
            or self._refuse_new(caller.org, is_background=operation.keeps_result)
            or self.limits.refuse(caller, self.config.snapshot, announced or 0, now_s)
            or self.shares.enter(caller.org)
        )
        if refusal is not None:
            self.tell_auditors(caller, request_id, refusal)
            return refusal
        return Entered(caller, now_s, announced, unproven)

    def leave(self, entered: Entered) -> None:
        """The request has been answered, or its client is gone."""
        held_ms = (self.clock.monotonic_s() - entered.at_s) * 1_000
        self.shares.leave(entered.caller.org, None if entered.is_flex else held_ms)
        if entered.room is not None:
            entered.room.release()

    async def read_body(
        self,
        entered: Entered,
        headers: Mapping[bytes, bytes],
        receive: Receive,
        request_id: str,
    ) -> bytes | Refusal | None:
        """The body, within the room for bodies, a large one in its turn, and as it was signed where its key asks for that;
        ``None`` when its client left before it was complete."""
        caller, max_bytes = entered.caller, self.body_bytes_max
        most = most_bytes(headers, entered.announced_bytes, max_bytes)
        room = await self.bodies.take(caller.org, most)
        if isinstance(room, Refusal):
            return room
        entered.room = room
        body = await read_body(receive, headers, max_bytes)
        if isinstance(body, bytes):
            room.shrink(len(body))
            if entered.announced_bytes is None:
                self.limits.count_body(caller, len(body), self.clock.monotonic_s())
            if len(body) > LARGE_BODY_BYTES:
                end_turn = await self.large.take(caller.org, len(body))
                if isinstance(end_turn, Refusal):
                    return end_turn
                room.then(end_turn)
            if entered.unproven is not None:
                return await self.prove(entered.unproven, sha256_of(body), request_id) or body
        return body

    def _learn(self, caller: Caller, denial: Denial, now_s: float) -> None:
        """Later requests of who exceeded a rate are refused at the door for a while."""
        self.limits.learn(caller, self.config.snapshot, denial, now_s)

    def _refuse_new(self, org: str, *, is_background: bool) -> Refusal | None:
        """Why nothing new is taken now, from anybody or from that organization."""
        for name, how in self.closing().items():
            message = f"The gateway takes no requests now ({name}: {how})."
            return Refusal(ErrorCode.SERVICE_UNAVAILABLE, message)
        if closed := self.conditions.closed_for(org):
            message = f"The ledger decides nothing for this organization now ({closed})."
            return Refusal(ErrorCode.SERVICE_UNAVAILABLE, message)
        if self.unproduced_s() > (_LOG_AWAY_S if is_background else UNPRODUCED_S):
            return Refusal(
                ErrorCode.OVERLOADED, "The log is behind.", retry_after_ms=_LOG_BEHIND_MS
            )
        return None


def _who(caller: Caller) -> str:
    """What is counted by, and told to auditors: nobody shares it."""
    return caller.alias or caller.key_id
