"""Begins validated requests: claims the key, then produces, or joins the earlier request it stands for.

The one way from any surface to the log. Nothing is awaited between the produce and the answer but the answer
itself; the broker's acknowledgement runs beside it and only speaks up when it fails. Of background work it is
awaited: what was promised is in the log, and nothing that dies can lose it.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Final, Self, TypeAlias

import msgspec

from ingress.apis.answer_format import refusal_of
from ingress.auth.caller import Caller
from ingress.gatekeeper.bodies import BodyHold
from ingress.gatekeeper.final_verdicts import Asked
from ingress.gatekeeper.log_gate import LogGate
from ingress.http.event_ids import EventId
from ingress.http.refusals import Refusal
from ingress.replies.awaited import Awaited, Times
from ingress.replies.mailbox import ClientGone, Mailbox, PendingRequests
from ingress.requests.cancellations import Cancellations
from ingress.requests.claims import Acquired, ClaimRequest, ClaimResult, Claims, Existing
from ingress.requests.exact_counts import ExactCounts
from ingress.requests.job_list import JobList
from ingress.requests.outcomes import without_frames
from ingress.requests.resumption import Resumption
from ingress.requests.validation import (
    ValidatedRequest,
    accepted_event,
    asked_of,
    with_excess,
)
from schemas.claim_check import crosses_once
from schemas.errors import ErrorCode
from schemas.events import RecordRef, RequestAccepted
from schemas.failures import Failure
from schemas.frames import Terminal
from schemas.job_facts import JobFacts
from schemas.outgoing import accepted_headers, accepted_record
from schemas.runtime.kafka.produce import Producer
from schemas.runtime.valkey.bodies import Bodies
from schemas.times import PRODUCE_WITHIN_MS

_SCOUT_LOOK_S: Final = 0.02
_FLEX_GRACE_S: Final = 5.0
"""Who waits for room in vain is told so a while after the deadline: it is looked for twice a second."""

Claimed: TypeAlias = Acquired | Existing


@dataclass(frozen=True, slots=True)
class RequestStarter:
    """Begins requests, whoever brings them."""

    gatekeeper: LogGate
    claims: Claims
    jobs: JobList
    producer: Producer
    bodies: Bodies
    pending: PendingRequests
    cancellations: Cancellations
    resumption: Resumption
    reply_to: str
    """The channel of this process, where answers arrive."""
    counts: ExactCounts = field(default_factory=ExactCounts)

    async def begin(
        self, request: ValidatedRequest, request_id: str, room: BodyHold, gone: ClientGone
    ) -> BegunRequest | Refusal:
        """Produce the request, or join the one it stands for; ``room`` is held until its body is in the log."""
        if request.resumed is not None:
            return await self._resume(request, request.resumed, gone)
        request = with_excess(request, self.gatekeeper.conditions.excess)
        claimed: Claimed = Acquired(request_id, request.deadline_ms)
        if request.key is not None:
            found = await self._claim(request, request_id)
            if isinstance(found, Refusal):
                return found
            if isinstance(found, Existing):
                return await self._join(request, found, gone)
            # One that was taken over has its time to reach the log before it.
            now_ms = self.gatekeeper.clock.now_ms()
            request = msgspec.structs.replace(
                request, deadline_ms=found.deadline_ms, received_at_ms=now_ms
            )
            claimed = found
        if request.parsed.call.texts is not None:
            request = await self.counts.bounded(request)
        if claimed.request_id == request_id and not request.is_answered_at_once:
            # What was taken over is produced whatever stands against it: a record of its holder that came
            # late gives way to ours, and would have no outcome if there were none.
            refusal = await self._refuse(request, request_id)
            if refusal is not None:
                return refusal
        if request.is_background:
            return await self._queue(request, claimed, room, gone)
        return await self._produce(request, claimed, room, gone)

    async def _claim(self, request: ValidatedRequest, request_id: str) -> ClaimResult:
        assert request.key is not None
        claimed = await self.claims.claim(
            ClaimRequest(
                request.caller.org, request.key, request_id, request.deadline_ms, request.may_join
            )
        )
        if isinstance(claimed, Existing) and claimed.ended is None and not request.may_join:
            return Refusal(
                ErrorCode.IDEMPOTENCY_IN_FLIGHT,
                "The first request with this idempotency key is still running.",
            )
        return claimed

    async def _refuse(self, request: ValidatedRequest, request_id: str) -> Refusal | None:
        """What the gatekeeper has against it; its key is free again then."""
        gatekeeper, caller, model = self.gatekeeper, request.caller, request.parsed.model
        asked = asked_of(request, gatekeeper.config.snapshot.offset)
        while gatekeeper.must_wait(caller, model, asked):
            await asyncio.sleep(_SCOUT_LOOK_S)
            asked = asked_of(request, gatekeeper.config.snapshot.offset)
        refusal = gatekeeper.refuse(
            caller, model, asked, request_id, is_background=request.is_background
        )
        if refusal is not None and request.key is not None:
            await self.claims.release(caller.org, request.key, request_id)
        return refusal

    async def _produce(
        self, request: ValidatedRequest, claimed: Claimed, room: BodyHold, gone: ClientGone
    ) -> BegunRequest:
        """Hand it to the log; its answer is waited for from now on."""
        # Before anything is awaited: both name the same configuration.
        config_offset = self.gatekeeper.config.snapshot.offset
        asked = asked_of(request, config_offset)
        event = accepted_event(request, claimed.request_id, config_offset, self.reply_to)
        produced = await self._send(event, request.traceparent)
        room.release_after(produced)
        awaited = _awaited(request, claimed, event.produce_by_ms)
        mailbox = self.pending.open(awaited, gone, self._times(request.deadline_ms), produced)
        return BegunRequest(self, request, claimed, mailbox, asked)

    async def _queue(
        self, request: ValidatedRequest, claimed: Claimed, room: BodyHold, gone: ClientGone
    ) -> BegunRequest | Refusal:
        """List it and produce it as background work; 503 unless both are durable in time."""
        reply_to = None if request.is_answered_at_once else self.reply_to
        config_offset = self.gatekeeper.config.snapshot.offset
        event = accepted_event(request, claimed.request_id, config_offset, reply_to)
        incarnation_ms = None if request.is_promised else event.produce_by_ms
        life = self.jobs.life(event.org)
        refusal = await self._list(request, claimed)
        if refusal is not None:
            return refusal
        try:
            async with asyncio.timeout(PRODUCE_WITHIN_MS / 1000):
                await (await self._send(event, request.traceparent))
        except (Failure, TimeoutError, asyncio.CancelledError) as error:
            # The broker may have it all the same; it must not run after its client was refused.
            self.cancellations.begin(
                event.org, event.request_id, event.deadline_ms, event.produce_by_ms
            )
            if isinstance(error, asyncio.CancelledError):
                raise
            message = "The request could not be queued in time."
            return Refusal(ErrorCode.SERVICE_UNAVAILABLE, message, request_id=claimed.request_id)
        room.release()
        if self.jobs.life(event.org) != life:
            # The ledger was rebuilt meanwhile, perhaps without it. If it cannot be told now, its admission does.
            await self._list(request, claimed)
        return self._joined(request, claimed, gone, incarnation_ms)

    async def _resume(
        self, request: ValidatedRequest, event: EventId, gone: ClientGone
    ) -> BegunRequest | Refusal:
        """Wait for what is left of a stream that was begun before."""
        refusal = await self.resumption.refuse(request.caller.org, event)
        if refusal is not None:
            return refusal
        earlier = Existing(event.request_id, request.deadline_ms, ended=None)
        return self._joined(request, earlier, gone)

    async def _join(
        self, request: ValidatedRequest, existing: Existing, gone: ClientGone
    ) -> BegunRequest | Refusal:
        """Wait for what was begun before; what has ended already and is not streamed is told at once."""
        is_job, ended = request.is_answered_at_once, existing.ended
        if request.is_background and ended is None and not is_job:
            refusal = await self._list(request, existing)
            if refusal is not None:
                return refusal
        begun = self._joined(request, existing, gone)
        is_stream, mailbox = request.parsed.call.stream, begun.mailbox
        if mailbox is not None and ended is not None and not (is_stream and ended.is_on_bus):
            mailbox.end(without_frames(ended.terminal, is_stream=is_stream))
        return begun

    def _joined(
        self,
        request: ValidatedRequest,
        claimed: Claimed,
        gone: ClientGone,
        incarnation_ms: int | None = None,
    ) -> BegunRequest:
        """Its frames from the first on; of one that was produced for this wait alone they come here by themselves."""
        if request.is_answered_at_once:
            return BegunRequest(self, request, claimed, None)
        awaited = _awaited(request, claimed, incarnation_ms)
        more_s = _FLEX_GRACE_S if request.is_flex else 0.0
        mailbox = self.pending.join(awaited, gone, self._times(request.deadline_ms, more_s))
        return BegunRequest(self, request, claimed, mailbox)

    async def _list(self, request: ValidatedRequest, claimed: Claimed) -> Refusal | None:
        if not request.is_listed:
            return None
        facts = JobFacts(request.parsed.model, claimed.deadline_ms, request.caller.owner)
        refusal = await self.jobs.add(request.caller.org, claimed.request_id, facts)
        return (
            None
            if refusal is None
            else msgspec.structs.replace(refusal, request_id=claimed.request_id)
        )

    async def _send(
        self, event: RequestAccepted, traceparent: bytes | None
    ) -> asyncio.Future[RecordRef]:
        """Produce it; a large body goes first to where the dispatcher finds it."""
        if crosses_once(event):
            await self.bodies.put(event, self.gatekeeper.clock.now_ms())
        return self.producer.send(accepted_record(event, accepted_headers(event, traceparent)))

    def _times(self, deadline_ms: int, more_s: float = 0.0) -> Times:
        now_s = asyncio.get_running_loop().time()
        left_ms = deadline_ms - self.gatekeeper.clock.now_ms()
        return Times(now_s, now_s + PRODUCE_WITHIN_MS / 1000, now_s + left_ms / 1000 + more_s)


class BegunRequest:
    """A request that was produced or joined, until its client was told how it ended. It holds no payload.

    ``with`` it: when that is left before the end, whoever stopped it, what nobody waits for is cancelled.
    """

    def __init__(
        self,
        starter: RequestStarter,
        request: ValidatedRequest,
        claimed: Claimed,
        mailbox: Mailbox | None,
        asked: Asked | None = None,
    ) -> None:
        self.request_id = claimed.request_id
        self.deadline_ms = claimed.deadline_ms
        self.model = request.parsed.model
        self.earlier = claimed if isinstance(claimed, Existing) else None
        """The request that was begun before under the same key."""
        self.mailbox = mailbox
        """Its frames; ``None`` when nobody waits for them here."""
        self._starter = starter
        self._caller: Caller = request.caller
        self._key = request.key
        self._runs_on = request.key is not None or request.is_resumable
        """Whether it does so when its client is gone: who comes back gets the answer."""
        self._asked = asked
        """What was asked, where the gatekeeper is to learn how it was answered."""
        self._is_settled = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.mailbox is None:
            return
        if not self._is_settled and not self._runs_on:
            self._cancel(self.mailbox)
        self._starter.pending.close(self.mailbox)

    async def settle(self, terminal: Terminal) -> None:
        """Before the client hears of the end: a next try must find things as it is told."""
        mailbox, starter = self.mailbox, self._starter
        assert mailbox is not None
        self._is_settled = True
        if self._asked is not None:
            refusal = refusal_of(terminal)
            starter.gatekeeper.note(self._caller, self.model, self._asked, refusal)
        is_abandoned, key = mailbox.is_abandoned, self._key
        if mailbox.is_refused_by_log or (is_abandoned and not self._runs_on):
            self._cancel(mailbox)
        elif key is not None and not is_abandoned:
            org = self._caller.org
            await starter.claims.release_if_free(org, key, self.request_id, terminal)

    def _cancel(self, mailbox: Mailbox) -> None:
        awaited = mailbox.awaited
        if awaited.incarnation_ms is not None:
            self._starter.cancellations.begin(
                awaited.org, awaited.request_id, awaited.deadline_ms, awaited.incarnation_ms
            )


def _awaited(
    request: ValidatedRequest, claimed: Claimed, incarnation_ms: int | None = None
) -> Awaited:
    return Awaited(
        request.caller.org,
        claimed.request_id,
        claimed.deadline_ms,
        request.parsed.call.stream,
        incarnation_ms,
    )
