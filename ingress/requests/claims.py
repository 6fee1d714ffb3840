"""Idempotency keys at the ledger: which request an HTTP request with a key stands for.

The first one is executed, every later one gets its answer. While the ledger is away no request
with a key is taken, because it might be a second execution.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Final, TypeAlias

from ingress.http.refusals import Refusal, too_many
from ingress.requests.idempotency import IdempotencyKey
from ingress.requests.lookup import RequestLookup
from ingress.requests.outcomes import cost_nothing
from ingress.requests.request_state import Ended, NeverRan, Open
from schemas.errors import ErrorCode
from schemas.frames import Terminal
from schemas.ledger import answers, documents
from schemas.ledger.errors import LedgerNotReady, LedgerUnavailable
from schemas.log_events import LogEvent
from schemas.runtime.ledger.client import LedgerClient
from schemas.runtime.process.event_log import EventLog
from schemas.runtime.process.retry import retry_until
from schemas.times import PRODUCE_WITHIN_MS

_LOG = EventLog(__name__)

_CLAIM_WITHIN_S: Final = 5.0
_RELEASE_WITHIN_S: Final = 2.0
_TRIES_MAX: Final = 2
_SEEN_WITHIN_S: Final = PRODUCE_WITHIN_MS / 1_000 + 1.0
"""Longer than a request may take to reach the log; what has not by then is taken over."""
_LOOK_FIRST_S: Final = 0.05
_LOOK_MAX_S: Final = 0.5
_LOG_FIRST_S: Final = 0.1
_LOG_EVERY_S: Final = 2.0
"""The log is asked for the holder's record less often than the ledger for its attempt."""


@dataclass(frozen=True, slots=True)
class ClaimRequest:
    """A request that wants to be executed under a key."""

    org: str
    key: IdempotencyKey
    request_id: str
    deadline_ms: int
    may_wait: bool = True
    """Whether it may wait until the holder of the key is known to run."""


@dataclass(frozen=True, slots=True)
class Acquired:
    """It is to be executed, under this id and deadline."""

    request_id: str
    deadline_ms: int


@dataclass(frozen=True, slots=True)
class Existing:
    """It was executed or is being executed under this id."""

    request_id: str
    deadline_ms: int
    ended: Ended | None
    is_unseen: bool = False
    """The ledger knows of no attempt: it may be on its way, or have died with its ingress."""


ClaimResult: TypeAlias = Acquired | Existing | Refusal


@dataclass(frozen=True, slots=True)
class Claims:
    """Claims keys and gives them back."""

    ledger: LedgerClient
    lookup: RequestLookup
    keys_max: int
    """Keys of one organization that are remembered, for a day."""

    async def claim(self, wanted: ClaimRequest) -> ClaimResult:
        """What the request stands for; a refusal when that cannot be told, or the body differs.

        A holder that nobody has seen yet is looked at again, because joining one that never reached
        the log would be waiting for nothing: after its time to get there, it is taken over. One whose
        record stands in the log is joined at once; it may be parked there, waiting for a limit.
        """
        began_s = time.monotonic()
        until_s, log_at_s, pause_s = began_s + _SEEN_WITHIN_S, began_s + _LOG_FIRST_S, _LOOK_FIRST_S
        while True:
            result = await self._claim_now(wanted)
            if not (isinstance(result, Existing) and result.is_unseen and wanted.may_wait):
                return result
            now_s = time.monotonic()
            if now_s >= until_s:
                return result
            if now_s >= log_at_s:
                log_at_s = now_s + _LOG_EVERY_S
                if await self.lookup.is_decided_from_log(wanted.org, result.request_id):
                    return await self._claim_now(wanted, joins=True)
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _LOOK_MAX_S)

    async def _claim_now(self, wanted: ClaimRequest, *, joins: bool = False) -> ClaimResult:
        deadline_s = time.monotonic() + _CLAIM_WITHIN_S
        try:
            for _ in range(_TRIES_MAX):
                result = await self._claim_once(wanted, deadline_s, joins=joins)
                if result is not None:
                    return result
        except LedgerUnavailable:
            return _away()
        return Refusal(ErrorCode.IDEMPOTENCY_IN_FLIGHT, "Others are using this idempotency key.")

    async def release_if_free(
        self, org: str, key: IdempotencyKey, holder: str, end: Terminal
    ) -> None:
        """Let the next try be a new request when the end of the holder of the key cost nothing."""
        if cost_nothing(end):
            await self.release(org, key, holder)

    async def _claim_once(
        self, wanted: ClaimRequest, deadline_s: float, *, joins: bool
    ) -> ClaimResult | None:
        """``None`` when the key was found to be held by nothing, and was freed."""
        match await self._ask(wanted, deadline_s, joins=joins):
            case answers.Mismatch():
                return _reused()
            case answers.Limited() as limited:
                return too_many(limited, "idempotency keys were used within a day")
            case answers.Claimed(req=holder, deadline_ms=until_ms) if holder == wanted.request_id:
                return Acquired(holder, until_ms)
            case answers.Claimed(req=holder, deadline_ms=until_ms):
                return await self._take_over(wanted, holder, until_ms)
            case answers.Held(req=holder, deadline_ms=until_ms) if holder == wanted.request_id:
                # The claim went through before, only its answer was lost.
                return Acquired(holder, until_ms)
            case answers.Held(req=holder, state=state, deadline_ms=until_ms):
                return await self._existing(wanted, holder, until_ms, is_unseen=not state)

    async def _take_over(self, wanted: ClaimRequest, holder: str, deadline_ms: int) -> ClaimResult:
        """Of a holder that should have been decided by now: produced again only if the log has none."""
        end = await self.lookup.end_on_bus(holder)
        if end is not None:
            return Existing(holder, deadline_ms, Ended(end, is_on_bus=True))
        if await self.lookup.is_decided_from_log(wanted.org, holder):
            return Existing(holder, deadline_ms, None)
        return Acquired(holder, deadline_ms)

    async def _existing(
        self, wanted: ClaimRequest, holder: str, deadline_ms: int, *, is_unseen: bool
    ) -> ClaimResult | None:
        match await self.lookup.find(wanted.org, holder, deadline_ms):
            case Ended() as ended:
                return Existing(holder, deadline_ms, ended)
            case Open() if not (is_unseen and self.lookup.clock.now_ms() >= deadline_ms):
                return Existing(holder, deadline_ms, None, is_unseen)
            case Open() | NeverRan():
                # Past its deadline nothing is admitted: who was not decided by then never runs.
                await self.release(wanted.org, wanted.key, holder)
                return None
            case _:
                return _away()

    async def _ask(
        self, wanted: ClaimRequest, deadline_s: float, *, joins: bool
    ) -> answers.ClaimAnswer:
        document = documents.Claim(
            org=wanted.org,
            req=wanted.request_id,
            key_hash=wanted.key.key_hash,
            fingerprint=wanted.key.fingerprint,
            produce_by_ms=self.lookup.clock.now_ms() + PRODUCE_WITHIN_MS,
            deadline_ms=wanted.deadline_ms,
            limit=self.keys_max,
            joins=joins,
        )

        async def ask() -> answers.ClaimAnswer:
            return await self.ledger.claim(document)

        # A shard that is being rebuilt takes seconds: the client comes back, and holds no place meanwhile.
        return await retry_until(ask, LedgerUnavailable, deadline_s, unless=LedgerNotReady)

    async def release(self, org: str, key: IdempotencyKey, holder: str) -> None:
        """Give the key back when it is held by ``holder``; a ledger that is away keeps it claimed."""
        document = documents.Release(org=org, req=holder, key_hash=key.key_hash)

        async def ask() -> answers.ReleaseAnswer:
            return await self.ledger.release(document)

        try:
            await retry_until(ask, LedgerUnavailable, time.monotonic() + _RELEASE_WITHIN_S)
        except LedgerUnavailable as error:
            _LOG.event(LogEvent.KEY_NOT_RELEASED, request_id=holder, org=org, error=error)


def _away() -> Refusal:
    return Refusal(
        ErrorCode.SERVICE_UNAVAILABLE, "Whether this request was made before cannot be told now."
    )


def _reused() -> Refusal:
    return Refusal(
        ErrorCode.IDEMPOTENCY_KEY_REUSED,
        "This idempotency key was used with another body.",
        param="Idempotency-Key",
    )
