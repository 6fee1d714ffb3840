"""The inference routes: takes a request in, hands it to the log, and answers with what comes back.

Nothing is awaited between the produce and the answer but the answer itself; the broker's
acknowledgement runs beside it and only speaks up when it fails. A request whose key was used
before is not produced: it joins the earlier one, or is given its answer again.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any, Final

from starlette.types import Receive, Scope, Send

from ingress.apis.bindings import BINDINGS
from ingress.endpoints.jobs import respond_queued
from ingress.gatekeeper.final_verdicts import Asked
from ingress.http.answer_headers import refusal_of, terminal_headers
from ingress.http.refusals import Headers, Refusal
from ingress.http.responses import limit_headers, refuse, respond
from ingress.replies.event_stream import StreamAnswer
from ingress.replies.mailbox import Awaited, Mailbox, Times
from ingress.requests.accepted import PRODUCE_WITHIN_MS
from ingress.requests.claims import Acquired, ClaimRequest, ClaimResult, Existing
from ingress.requests.intake import Intake
from ingress.requests.job_document import JobFacts
from ingress.requests.outcomes import without_frames
from ingress.requests.validation import (
    ValidatedRequest,
    Way,
    asked_of,
    event_of,
    refuse_before_log,
    validate,
)
from schemas.errors import ErrorCode
from schemas.frames import Terminal
from schemas.operations import Operation
from schemas.runtime.valkey.bus import channel_of

_REPLAYED: Final[Headers] = [(b"idempotent-replayed", b"true")]
_SAME_AGAIN: Final[Headers] = [(b"x-should-retry", b"false")]
"""A failure that is remembered under its key stays the answer, whatever its status suggests."""
_ASYNC_APPLIED: Final[Headers] = [(b"preference-applied", b"respond-async")]


class CompletionEndpoint:
    """One operation, as an ASGI application."""

    def __init__(self, intake: Intake, operation: Operation) -> None:
        self._intake = intake
        self._operation = operation
        self._channel = channel_of(intake.settings.instance_id)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        state, surface = scope["state"], self._operation.surface
        entered = self._intake.enter(scope)
        if isinstance(entered, Refusal):
            await refuse(send, entered, surface, state["request_id"], limit_headers(entered))
            return
        try:
            taken = await validate(self._intake, self._operation, entered, receive)
            if isinstance(taken, ValidatedRequest):
                answering = self._answer(state, taken, receive, send)
                taken = None  # What waits for an answer holds no payload, here neither.
                taken = await answering
            if taken is not None:
                await refuse(send, taken, surface, state["request_id"], [])
        finally:
            self._intake.leave(entered)

    async def _answer(
        self, state: dict[str, Any], taken: ValidatedRequest, receive: Receive, send: Send
    ) -> Refusal | None:
        """Answer a request that was taken; what comes back is to be refused."""
        standing = await self._standing(state["request_id"], taken)
        if isinstance(standing, Refusal):
            return standing
        is_takeover = standing.request_id != state["request_id"]
        state["request_id"] = standing.request_id
        is_ended = isinstance(standing, Existing) and standing.ended is not None
        if isinstance(standing, Acquired):
            if taken.key is not None:
                # One that was taken over has its time to reach the log before it.
                now_ms = self._intake.clock.now_ms()
                taken = replace(taken, deadline_ms=standing.deadline_ms, received_at_ms=now_ms)
            refusal = await self._refuse(standing, taken, is_takeover=is_takeover)
            if refusal is not None:
                return refusal
        if taken.is_background and not is_ended:
            queueing = self._answer_or_queue(standing, taken, receive, send)
            del taken
            return await queueing
        # Before anything is awaited: the event names the same configuration.
        asked = asked_of(self._intake, taken)
        mailbox = await self._open(standing, taken, receive)
        taken = taken.without_payload()
        exchange = _ReplyWriter(self._intake, self._operation, taken, mailbox)
        if isinstance(standing, Acquired):
            exchange.asked = asked
        try:
            await exchange.relay(send, _replayed(standing))
        finally:
            self._intake.pending.close(exchange.mailbox)
        return None

    async def _refuse(
        self, fresh: Acquired, taken: ValidatedRequest, *, is_takeover: bool
    ) -> Refusal | None:
        """What stands against producing it. What was taken over is produced whatever that is: a record of
        its holder that came late gives way to ours, and would have no outcome if there were none."""
        if is_takeover:
            return None
        is_background = taken.is_background
        return await refuse_before_log(
            self._intake, taken, fresh.request_id, is_background=is_background
        )

    async def _standing(self, request_id: str, taken: ValidatedRequest) -> ClaimResult:
        if taken.key is None:
            return Acquired(request_id, taken.deadline_ms)
        prefers = taken.preference
        wants_to_wait = prefers.wait_s != 0 or prefers.respond_async
        standing = await self._intake.claims.claim(
            ClaimRequest(taken.caller.org, taken.key, request_id, taken.deadline_ms, wants_to_wait)
        )
        is_running = isinstance(standing, Existing) and standing.ended is None
        if is_running and not wants_to_wait:
            return Refusal(
                ErrorCode.IDEMPOTENCY_IN_FLIGHT,
                "The first request with this idempotency key is still running.",
            )
        return standing

    async def _open(
        self, standing: Acquired | Existing, taken: ValidatedRequest, receive: Receive
    ) -> Mailbox:
        """The mailbox of the answer; one that has ended already and is not streamed is in it."""
        intake, request_id = self._intake, standing.request_id
        times = self._times(taken)
        if isinstance(standing, Acquired):
            way = Way(self._channel, keep_result=taken.key is not None)
            event, headers = event_of(intake, self._operation.name, request_id, taken, way)
            awaited = _awaited(standing, taken, event.produce_by_ms)
            await intake.publisher.share_body(event)
            produced = intake.publisher.produce(event, headers)
            taken.room.release_after(produced)
            return intake.pending.open(awaited, receive, times, produced)
        awaited = _awaited(standing, taken)
        mailbox = intake.pending.join(awaited, receive, times)
        ended, is_stream = standing.ended, awaited.is_stream
        if ended is not None and not (is_stream and ended.is_on_bus):
            mailbox.end(without_frames(ended.terminal, is_stream=is_stream))
        return mailbox

    async def _answer_or_queue(
        self, standing: Acquired | Existing, taken: ValidatedRequest, receive: Receive, send: Send
    ) -> Refusal | None:
        """Wait as long as the client prefers, then let it fetch the answer as that of a job."""
        intake, request_id = self._intake, standing.request_id
        facts = JobFacts(taken.parsed.model, standing.deadline_ms)
        if isinstance(standing, Acquired):
            way = Way(self._channel, keep_result=True)
            event, headers = event_of(intake, self._operation.name, request_id, taken, way)
            refusal = await intake.publisher.place_job(event, headers)
            del event
            taken = taken.without_payload()
            taken.room.release()
        else:
            refusal = await intake.publisher.list_job(taken.caller.org, request_id, facts)
        if refusal is not None:
            return refusal
        awaited, times = _awaited(standing, taken), self._times(taken)
        mailbox = intake.pending.join(awaited, receive, times)
        exchange = _ReplyWriter(intake, self._operation, taken, mailbox)
        try:
            async with asyncio.timeout(taken.preference.wait_s or 0):
                terminal = await exchange.mailbox.take_terminal()
        except TimeoutError:
            terminal = None
        finally:
            intake.pending.close(exchange.mailbox)
        if mailbox.is_client_gone:
            return None
        if terminal is None or mailbox.is_abandoned:
            more = [*_replayed(standing), *_ASYNC_APPLIED]
            await respond_queued(send, request_id, facts, more)
        else:
            await exchange.write(terminal, send, _replayed(standing))
        return None

    def _times(self, taken: ValidatedRequest) -> Times:
        now_s = asyncio.get_running_loop().time()
        left_ms = taken.deadline_ms - self._intake.clock.now_ms()
        return Times(now_s, now_s + PRODUCE_WITHIN_MS / 1000, now_s + left_ms / 1000)


class _ReplyWriter:
    """One answer on its way to one client."""

    def __init__(
        self, intake: Intake, operation: Operation, taken: ValidatedRequest, mailbox: Mailbox
    ) -> None:
        self.mailbox = mailbox
        self._surface = operation.surface
        self._format = BINDINGS[operation.name].format(taken.parsed)
        self.asked: Asked | None = None
        """What was asked, where the gate is to learn how it was answered."""
        self._intake = intake
        self._taken = taken
        self._is_settled = False

    async def relay(self, send: Send, more: Headers) -> None:
        """Relay the answer; when that stops before its end, whoever stopped it, cancel what nobody
        waits for."""
        mailbox = self.mailbox
        try:
            if self._taken.parsed.call.stream:
                answer = StreamAnswer(mailbox, self._format, self._surface, send, more)
                await answer.relay(self._settle)
            else:
                terminal = await mailbox.take_terminal()
                if terminal is not None:
                    await self.write(terminal, send, more)
        finally:
            if not self._is_settled and self._taken.key is None:
                self._cancel()

    async def write(self, terminal: Terminal, send: Send, more: Headers) -> None:
        """Write an answer that is not streamed."""
        await self._settle(terminal)
        headers = [*terminal_headers(terminal), *more]
        body = refusal_of(terminal) or self._format.body(terminal)
        if isinstance(body, Refusal):
            await refuse(send, body, self._surface, self.mailbox.request_id, headers)
        else:
            await respond(send, terminal.http_status, b"application/json", body, headers)

    async def _settle(self, terminal: Terminal) -> None:
        """Before the client hears of the end: a next try must find things as it is told."""
        org, key = self._taken.caller.org, self._taken.key
        self._is_settled = True
        if self.asked is not None:
            self._teach_gate(self.asked, refusal_of(terminal))
        is_abandoned = self.mailbox.is_abandoned
        if self.mailbox.is_refused_by_log or (is_abandoned and key is None):
            self._cancel()
        elif key is not None and not is_abandoned:
            claims = self._intake.claims
            await claims.release_if_free(org, key, self.mailbox.request_id, terminal)

    def _teach_gate(self, asked: Asked, refusal: Refusal | None) -> None:
        caller, config = self._taken.caller, self._intake.config.snapshot
        self._intake.gate.note(caller, config, self._taken.parsed.model, asked, refusal)

    def _cancel(self) -> None:
        awaited = self.mailbox.awaited
        if awaited.incarnation_ms is not None:
            self._intake.cancellations.begin(
                awaited.org, awaited.request_id, awaited.deadline_ms, awaited.incarnation_ms
            )


def _awaited(
    standing: Acquired | Existing, taken: ValidatedRequest, incarnation_ms: int | None = None
) -> Awaited:
    return Awaited(
        taken.caller.org,
        standing.request_id,
        standing.deadline_ms,
        taken.parsed.call.stream,
        incarnation_ms,
    )


def _replayed(standing: Acquired | Existing) -> Headers:
    if not isinstance(standing, Existing):
        return []
    ended = standing.ended
    has_failed = ended is not None and ended.terminal.error_code is not None
    return [*_REPLAYED, *_SAME_AGAIN] if has_failed else _REPLAYED
