"""Answers the operations: validates what came, begins it, and tells its client how it ended.

One endpoint for each row of the table of operations. A client that prefers not to wait, or whose operation
keeps its result, is answered with the promise of a job.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial
from typing import Any, Final

import msgspec
from starlette.types import Receive, Scope, Send

from ingress.apis.answer_format import AnswerFormat, limit_headers, refusal_of, terminal_headers
from ingress.apis.bindings import BINDINGS
from ingress.apis.openai.responses.answers import ResponseFormat
from ingress.auth.callers import TOLD
from ingress.gatekeeper.gatekeeper import Entered, Gatekeeper
from ingress.http.event_ids import EventId
from ingress.http.paths import job_path
from ingress.http.refusals import Headers, Refusal
from ingress.http.responses import refuse, respond, until_gone
from ingress.replies.background_stream import BackgroundStream
from ingress.replies.event_stream import StreamAnswer
from ingress.replies.mailbox import Mailbox
from ingress.requests.begin import BegunRequest, RequestStarter
from ingress.requests.conversations import Conversations
from ingress.requests.following import known_end
from ingress.requests.job_document import QUEUED, RETRY_AFTER, job_document
from ingress.requests.validation import ValidatedRequest, read_circumstances, validate
from schemas.frames import Terminal
from schemas.job_facts import JobFacts
from schemas.operations import Operation

_REPLAYED: Final[Headers] = [(b"idempotent-replayed", b"true")]
_SAME_AGAIN: Final[Headers] = [(b"x-should-retry", b"false")]
"""A failure that is remembered under its key stays the answer, whatever its status suggests."""
_FLEX: Final[Headers] = [(b"x-tallygate-service-tier", b"flex")]
_ASYNC_APPLIED: Final[Headers] = [(b"preference-applied", b"respond-async")]


class OperationEndpoint:
    """One operation, as an ASGI application."""

    def __init__(
        self,
        operation: Operation,
        gatekeeper: Gatekeeper,
        starter: RequestStarter,
        deadlines_s: tuple[float, float],
        flex_s: tuple[float, float],
        conversations: Conversations | None = None,
    ) -> None:
        self._operation = operation
        self._binding = BINDINGS[operation.name]
        self._gatekeeper = gatekeeper
        self._starter = starter
        self._deadlines_s = deadlines_s
        self._conversations = conversations
        """Where requests of the operation may go on from earlier ones."""
        self._flex_s = flex_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        state, headers = scope["state"], dict(scope["headers"])
        keeper = self._gatekeeper
        asked = keeper.tell(scope, headers)
        told = asked if isinstance(asked, TOLD) else await asked
        if isinstance(told, Refusal):
            await self._refuse(told, state, send)
            return
        entered = keeper.enter(told, self._operation, scope, headers, state["request_id"])
        if isinstance(entered, Refusal):
            await self._refuse(entered, state, send)
            return
        try:
            refusal = await self._answer(state, headers, entered, receive, send)
            if refusal is not None:
                await self._refuse(refusal, state, send)
        finally:
            keeper.leave(entered)

    async def _answer(
        self,
        state: dict[str, Any],
        headers: Mapping[bytes, bytes],
        entered: Entered,
        receive: Receive,
        send: Send,
    ) -> Refusal | None:
        """Answer a request that was let in; what comes back is to be refused."""
        request = await self._validate(headers, entered, receive, state["request_id"])
        if not isinstance(request, ValidatedRequest):
            return request
        if request.is_flex and not request.is_promised:
            refusal = self._gatekeeper.shares.enter_flex(entered.caller.org)
            if refusal is not None:
                return refusal
            entered.is_flex = True
        assert entered.room is not None
        gone = partial(until_gone, receive)
        begun = await self._starter.begin(request, state["request_id"], entered.room, gone)
        if isinstance(begun, Refusal):
            state["request_id"] = begun.request_id or state["request_id"]
            return begun
        state["request_id"] = begun.request_id
        state["model"], state["traceparent"] = request.parsed.model, request.traceparent
        state["accepted_at_ms"] = request.received_at_ms
        if begun.earlier is not None:
            state["is_replayed"] = True
        answer_format = self._binding.format(request.parsed, begun.request_id)
        preference = request.preference
        is_stream, is_promised = request.parsed.call.stream, request.is_promised
        promise = self._promised(request, begun.request_id)
        told = _FLEX if request.is_flex else []
        after = request.resumed
        del request  # What waits for an answer holds no payload.
        with begun:
            if begun.mailbox is None:
                await _promise(begun, send, [*_replay_headers(begun), *told], promise)
            elif is_stream:
                stream = self._stream(begun, begun.mailbox, answer_format, send, state, told, after)
                _note(state, begun, await stream.relay(begun.settle))
            elif is_promised:
                wait_s = preference.wait_s or 0
                await self._write_or_promise(
                    begun, begun.mailbox, answer_format, wait_s, send, state, told
                )
            else:
                terminal = await begun.mailbox.take_terminal()
                if terminal is not None:
                    await self._write(begun, terminal, answer_format, send, state, told)
        return None

    def _stream(
        self,
        begun: BegunRequest,
        mailbox: Mailbox,
        answer_format: AnswerFormat,
        send: Send,
        state: dict[str, Any],
        told: Headers,
        after: EventId | None,
    ) -> StreamAnswer:
        """What relays a stream; of what runs in the background it tells at once that it is queued."""
        more = [*_replay_headers(begun), *told]
        if isinstance(answer_format, ResponseFormat) and answer_format.is_background:
            awaited, lookup = mailbox.awaited, self._starter.claims.lookup
            known = partial(known_end, lookup, awaited.org, begun.request_id, begun.deadline_ms)
            return BackgroundStream(mailbox, answer_format, send, more, state, known, after)
        surface = self._operation.surface
        return StreamAnswer(mailbox, answer_format, surface, send, more, state, after)

    def _promised(self, request: ValidatedRequest, request_id: str) -> bytes | None:
        """What answers a body that asks to be answered at once; ``None`` of any other."""
        promise = self._binding.promise if request.is_answered_at_once else None
        return None if promise is None else promise(request.parsed, request_id)

    async def _validate(
        self,
        headers: Mapping[bytes, bytes],
        entered: Entered,
        receive: Receive,
        request_id: str,
    ) -> ValidatedRequest | Refusal | None:
        """Read and check a request; ``None`` when its client left meanwhile."""
        said = read_circumstances(headers, *self._deadlines_s)
        if isinstance(said, Refusal):
            return said
        keeper = self._gatekeeper
        body = await keeper.read_body(entered, headers, receive, request_id)
        if body is None or isinstance(body, Refusal):
            return body
        parse, caller = self._binding.parse, entered.caller
        if self._conversations is not None:
            found = await self._conversations.parser(caller, body)
            if isinstance(found, Refusal):
                return found
            parse = found
        snapshot, now_ms = keeper.config.snapshot, keeper.clock.now_ms()
        return validate(self._operation, parse, caller, said, body, snapshot, now_ms, self._flex_s)

    async def _write_or_promise(
        self,
        begun: BegunRequest,
        mailbox: Mailbox,
        answer_format: AnswerFormat,
        wait_s: int,
        send: Send,
        state: dict[str, Any],
        told: Headers,
    ) -> None:
        """Wait as long as the client prefers, then let it fetch the answer as that of a job."""
        try:
            async with asyncio.timeout(wait_s):
                terminal = await mailbox.take_terminal()
        except TimeoutError:
            terminal = None
        if mailbox.is_client_gone:
            return
        if terminal is None or mailbox.is_abandoned:
            await _promise(begun, send, [*_replay_headers(begun), *_ASYNC_APPLIED, *told])
        else:
            await self._write(begun, terminal, answer_format, send, state, told)

    async def _write(
        self,
        begun: BegunRequest,
        terminal: Terminal,
        answer_format: AnswerFormat,
        send: Send,
        state: dict[str, Any],
        told: Headers,
    ) -> None:
        """Write an answer that is not streamed."""
        await begun.settle(terminal)
        state["rates"] = terminal.rates
        headers = [*terminal_headers(terminal), *_replay_headers(begun), *told]
        body = refusal_of(terminal) or answer_format.body(terminal)
        if isinstance(body, Refusal):
            await refuse(send, body, self._operation.surface, state, headers)
        else:
            await respond(send, terminal.http_status, b"application/json", body, headers)
        _note(state, begun, terminal)

    async def _refuse(self, refusal: Refusal, state: dict[str, Any], send: Send) -> None:
        surface = self._operation.surface
        await refuse(send, refusal, surface, state, limit_headers(refusal))


def _note(state: dict[str, Any], begun: BegunRequest, terminal: Terminal | None) -> None:
    """How long the workers took, which an answer that was kept cannot tell."""
    if terminal is not None and begun.earlier is None:
        state["latency_ms"] = terminal.latency_ms


async def _promise(
    begun: BegunRequest, send: Send, more: Headers, body: bytes | None = None
) -> None:
    """202: the request runs as a job, found at ``Location``; 200 and what its surface promises with, where it has a
    form of its own."""
    if body is not None:
        await respond(send, 200, b"application/json", body, more)
        return
    job_id, facts = begun.request_id, JobFacts(begun.model, begun.deadline_ms)
    headers = [(b"location", job_path(job_id).encode()), (b"retry-after", RETRY_AFTER), *more]
    body = msgspec.json.encode(job_document(job_id, facts, QUEUED))
    await respond(send, 202, b"application/json", body, headers)


def _replay_headers(begun: BegunRequest) -> Headers:
    """What tells a client that its answer is that of an earlier request."""
    if begun.earlier is None:
        return []
    ended, is_promised = begun.earlier.ended, begun.mailbox is None
    has_failed = ended is not None and ended.terminal.error_code is not None
    return [*_REPLAYED, *_SAME_AGAIN] if has_failed and not is_promised else _REPLAYED
