"""Answers the calls of the inference service: validates what came, begins it, and tells its client how it ended.

The same two steps as over HTTP (``validate``, ``begin``), by the same gatekeeper. A client that leaves, and one whose
deadline passes, ends the task of its call, and with that what nobody waits for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

import msgspec

from ingress.apis.answer_format import limit_headers, refusal_of, terminal_headers
from ingress.apis.bindings import BINDINGS
from ingress.auth.callers import TOLD
from ingress.gatekeeper.gatekeeper import Entered
from ingress.grpc import messages
from ingress.grpc.call import Call, Context
from ingress.http.refusals import Refusal
from ingress.replies.mailbox import Mailbox
from ingress.requests.begin import BegunRequest
from ingress.requests.job_document import QUEUED, job_document
from ingress.requests.validation import ValidatedRequest, read_circumstances, validate
from ingress.routes import PublicParts
from schemas.frames import Chunk, Terminal
from schemas.job_facts import JobFacts
from schemas.operations import INFERENCE, JOBS, Operation
from schemas.proto.tallygate.inference.v1 import inference_pb2 as pb

__all__ = ["Answered", "InferenceCalls"]

Answered: TypeAlias = bytes | Refusal | None
"""The last message of an answer, why there is none, or that nobody is there to have one."""
_REPLAYED: Final = (b"idempotent-replayed", b"true")

_Body: TypeAlias = Callable[[bytes, str], bytes | Refusal]
"""Gives the body that a message stands for; its id is ours where the client names none."""
_Answer: TypeAlias = Callable[[Call, BegunRequest, ValidatedRequest], Awaitable[Answered]]


@dataclass(frozen=True, slots=True)
class InferenceCalls:
    """The methods of the service; each gives the last message of its answer."""

    parts: PublicParts

    async def infer(self, call: Call, _: Context) -> Answered:
        """The finished request."""
        return await self._run(call, INFERENCE, messages.inference_body, self._whole)

    async def infer_stream(self, call: Call, context: Context) -> Answered:
        """The summary, behind the pieces."""

        async def relay(call: Call, begun: BegunRequest, request: ValidatedRequest) -> Answered:
            return await _relay(call, begun, request, context)

        return await self._run(call, INFERENCE, messages.stream_body, relay)

    async def submit_job(self, call: Call, _: Context) -> Answered:
        """The promise of a job."""
        return await self._run(call, JOBS, messages.job_body, self._promise)

    async def get_job(self, call: Call, _: Context) -> Answered:
        """The job as it is."""
        return await self._job(call, is_cancelled=False)

    async def cancel_job(self, call: Call, _: Context) -> Answered:
        """The job as it is, once it was cancelled."""
        return await self._job(call, is_cancelled=True)

    async def _run(
        self, call: Call, operation: Operation, read: _Body, answer: _Answer
    ) -> Answered:
        keeper = self.parts.gatekeeper
        asked = keeper.tell(call.head, call.headers)
        told = asked if isinstance(asked, TOLD) else await asked
        if isinstance(told, Refusal):
            return told
        entered = keeper.enter(told, operation, call.head, call.headers, call.request_id)
        if isinstance(entered, Refusal):
            call.trailing += limit_headers(entered)
            return entered
        try:
            request = await self._validate(call, operation, entered, read)
            if not isinstance(request, ValidatedRequest):
                return request
            if request.is_flex and not request.is_promised:
                refusal = keeper.shares.enter_flex(entered.caller.org)
                if refusal is not None:
                    return refusal
                entered.is_flex = True
            assert entered.room is not None
            starter = self.parts.starter
            begun = await starter.begin(request, call.request_id, entered.room, _until_cancelled)
            if isinstance(begun, Refusal):
                call.request_id = begun.request_id or call.request_id
                call.trailing += limit_headers(begun)
                return begun
            call.request_id = begun.request_id
            call.trailing += [_REPLAYED] if begun.earlier is not None else []
            with begun:
                return await answer(call, begun, request)
        finally:
            keeper.leave(entered)

    async def _validate(
        self, call: Call, operation: Operation, entered: Entered, read: _Body
    ) -> ValidatedRequest | Refusal | None:
        """Read and check a request; ``None`` when its client left meanwhile."""
        said = read_circumstances(call.headers, *self.parts.deadlines_s)
        if isinstance(said, Refusal):
            return said
        keeper = self.parts.gatekeeper
        raw = await keeper.read_body(entered, call.headers, call.receive, call.request_id)
        body = read(raw, call.request_id) if isinstance(raw, bytes) else raw
        if body is None or isinstance(body, Refusal):
            return body
        snapshot, now_ms = keeper.config.snapshot, keeper.clock.now_ms()
        parse = BINDINGS[operation.name].parse
        request = validate(
            operation, parse, entered.caller, said, body, snapshot, now_ms, self.parts.flex_s
        )
        if isinstance(request, Refusal) or said.key is not None:
            return request
        # An id that is ours is no key: nobody can come back with it, so leaving cancels.
        is_ours = request.parsed.client_key == call.request_id
        return msgspec.structs.replace(request, key=None) if is_ours else request

    async def _whole(self, call: Call, begun: BegunRequest, request: ValidatedRequest) -> Answered:
        answer_format = BINDINGS[request.operation.name].format(request.parsed, begun.request_id)
        terminal = await _mailbox(begun).take_terminal()
        if terminal is None:
            return None
        await begun.settle(terminal)
        call.trailing += terminal_headers(terminal)
        body = refusal_of(terminal) or answer_format.body(terminal)
        return body if isinstance(body, Refusal) else messages.infer_response(body)

    async def _promise(self, _: Call, begun: BegunRequest, __: ValidatedRequest) -> Answered:
        facts = JobFacts(begun.model, begun.deadline_ms)
        job = messages.job_message(job_document(begun.request_id, facts, QUEUED))
        if isinstance(job, Refusal):
            return job
        return pb.SubmitJobResponse(job=job).SerializeToString()

    async def _job(self, call: Call, *, is_cancelled: bool) -> Answered:
        raw = (await call.receive()).get("body")
        if raw is None:
            return None
        caller = await self.parts.gatekeeper.caller(call.head, JOBS.scope, raw)
        if isinstance(caller, Refusal):
            return caller
        job_id = messages.read_job_id(raw)
        if isinstance(job_id, Refusal):
            return job_id
        found = await self.parts.desk.find(caller, job_id, is_cancelled=is_cancelled)
        job = found if isinstance(found, Refusal) else messages.job_message(found)
        if isinstance(job, Refusal):
            return job
        # Both answers are the same on the wire.
        return pb.GetJobResponse(job=job).SerializeToString()


async def _relay(
    call: Call, begun: BegunRequest, request: ValidatedRequest, context: Context
) -> Answered:
    """Write the pieces as they come; the summary is the last message."""
    answer_format = BINDINGS[request.operation.name].format(request.parsed, begun.request_id)
    mailbox, terminal = _mailbox(begun), None
    del request  # What waits for an answer holds no payload.
    while terminal is None:
        contents = await mailbox.take()
        if mailbox.is_client_gone:
            return None
        last = contents[-1] if contents else None
        terminal = last if isinstance(last, Terminal) else None
        if terminal is not None:
            await begun.settle(terminal)
        for content in contents:
            if isinstance(content, Chunk):
                for message in messages.stream_responses(answer_format.events(content.body)):
                    await context.write(message)
    call.trailing += terminal_headers(terminal)
    refusal = refusal_of(terminal)
    if refusal is not None:
        return refusal
    return next(messages.stream_responses(answer_format.last_events(terminal)))


def _mailbox(begun: BegunRequest) -> Mailbox:
    assert begun.mailbox is not None, "only jobs have none, and they are promised"
    return begun.mailbox


async def _until_cancelled() -> None:
    """A client that leaves is seen by the server, which ends the task of its call."""
    await asyncio.Event().wait()
