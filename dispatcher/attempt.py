"""One attempt: a backend is called once and its answer relayed. Returns how it ended; never raises
for what backends do.

A stream's first content is announced to the ledger before it leaves, so that no second attempt can
start once the client has seen a byte.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import aiohttp

from dispatcher.completions import Completion, StreamReader, UpstreamGarbage, read_body
from dispatcher.replies import ReplyStream
from dispatcher.routing import Choice
from dispatcher.settlement import Ending, Job, used
from dispatcher.token_counts import estimate
from dispatcher.upstreams import UpstreamFailure, Upstreams
from schemas.errors import ErrorCode
from schemas.events import Attempt
from schemas.frames import Chunk, Started
from schemas.money import TokenCounts
from schemas.runtime.clock import Clock

NoteStreamed = Callable[[], Awaitable[bool]]
"""Tells the ledger that content is about to leave; False when the fence is no longer ours."""


@dataclass(slots=True)
class Abort:
    """Lets others end a call under way, saying why."""

    reason: str | None = None
    _scope: asyncio.Timeout | None = None

    def watch(self, scope: asyncio.Timeout) -> None:
        """The call runs inside this scope from now on."""
        self._scope = scope
        if self.reason is not None:
            scope.reschedule(asyncio.get_running_loop().time())

    def unwatch(self) -> None:
        """The call is over; ending it has no effect any more."""
        self._scope = None

    def end(self, reason: str) -> None:
        """End the call now; only the first reason counts."""
        if self.reason is None:
            self.reason = reason
            if self._scope is not None:
                self._scope.reschedule(asyncio.get_running_loop().time())


@dataclass(frozen=True, slots=True)
class AttemptResult:
    """How the attempt ended."""

    attempt: Attempt
    ending: Ending
    may_try_another: bool
    may_have_spent: bool


@dataclass(slots=True)
class AttemptRun:
    """Everything one attempt needs."""

    job: Job
    choice: Choice
    number: int
    replies: ReplyStream
    upstreams: Upstreams
    clock: Clock
    note_streamed: NoteStreamed
    abort: Abort
    started_at_ms: int = field(init=False)
    first_token_at_ms: int | None = field(default=None, init=False)
    reader: StreamReader = field(init=False)

    async def run(self) -> AttemptResult:
        """Call the backend and relay its answer until it ends, fails, is aborted or too late."""
        self.started_at_ms = self.clock.now_ms()
        self.reader = StreamReader(relays_usage=self.job.request.include_usage)
        loop = asyncio.get_running_loop()
        left_s = (self.job.request.deadline_ms - self.started_at_ms) / 1000
        timeout_s = min(left_s, self.choice.backend.timeout_s)
        try:
            async with asyncio.timeout_at(loop.time() + timeout_s) as scope:
                self.abort.watch(scope)
                try:
                    return await self._call()
                finally:
                    self.abort.unwatch()
        except UpstreamFailure as failure:
            return self._failed(failure)
        except UpstreamGarbage as error:
            return self._failed(
                UpstreamFailure(ErrorCode.UPSTREAM_ERROR, str(error), may_have_spent=True)
            )
        except TimeoutError:
            return self._ended_early(deadline=left_s <= self.choice.backend.timeout_s)

    async def _call(self) -> AttemptResult:
        request = self.job.request
        call = self.upstreams.chat(self.choice, request.payload, request.request_id)
        async with call as response:
            if request.stream:
                return await self._relay(response)
            body = await self.upstreams.body(response)
        completion = read_body(body)
        return self._completed(completion, body)

    async def _relay(self, response: aiohttp.ClientResponse) -> AttemptResult:
        """Relay events as they come; what arrives while a frame is stored joins the next frame."""
        async for received in response.content.iter_any():
            events = self.reader.feed(received)
            if not events:
                continue
            if self.first_token_at_ms is None:
                if not await self.note_streamed():
                    self.abort.reason = "stale"
                    return self._ended_early(deadline=False)
                self.first_token_at_ms = self.clock.now_ms()
                status = self.job.admitted.rate_status
                await self.replies.send(Started(self.choice.backend_id, status))
            await self.replies.send(Chunk(events))
        if self.reader.failed or not self.reader.done:
            raise UpstreamFailure(
                ErrorCode.UPSTREAM_INTERRUPTED,
                "the backend broke off in mid-stream",
                may_have_spent=True,
            )
        return self._completed(self.reader.completion(), b"")

    def _completed(self, completion: Completion, body: bytes) -> AttemptResult:
        attempt = self._attempt("succeeded", completion, upstream_status=200)
        return AttemptResult(
            attempt,
            Ending("completed", body=body),
            may_try_another=False,
            may_have_spent=True,
        )

    def _failed(self, failure: UpstreamFailure) -> AttemptResult:
        streamed = self.first_token_at_ms is not None
        attempt = self._attempt(
            "interrupted" if streamed else "failed",
            self.reader.completion() if failure.may_have_spent else None,
            upstream_status=failure.upstream_status,
        )
        rejected = failure.code is ErrorCode.UPSTREAM_REJECTED
        ending = Ending(
            "failed",
            failure.code,
            http_status=failure.upstream_status if rejected else None,
            message=failure.message,
            retry_after_ms=failure.retry_after_ms,
        )
        return AttemptResult(
            attempt,
            ending,
            may_try_another=failure.retryable and not streamed,
            may_have_spent=failure.may_have_spent,
        )

    def _ended_early(self, *, deadline: bool) -> AttemptResult:
        """The deadline, the backend's own timeout, or somebody ended it."""
        cancelled = self.abort.reason == "cancelled"
        attempt = self._attempt(
            "cancelled" if cancelled else "interrupted", self.reader.completion(), None
        )
        if cancelled:
            ending = Ending("cancelled", ErrorCode.REQUEST_CANCELLED)
        else:
            ending = Ending("failed", ErrorCode.DEADLINE_EXCEEDED)
        elsewhere = not deadline and self.abort.reason is None and self.first_token_at_ms is None
        return AttemptResult(attempt, ending, may_try_another=elsewhere, may_have_spent=True)

    def _attempt(
        self, status: str, completion: Completion | None, upstream_status: int | None
    ) -> Attempt:
        """The attempt as booked: the backend's own counts, else exact counts of the text, marked as
        an estimate; nothing when the backend cannot have worked."""
        price = self.job.admitted.price
        tokens = TokenCounts(0, 0)
        estimated = False
        if completion is not None:
            estimated = completion.usage is None
            tokens = completion.usage or estimate(self.job.request.payload, completion.text)
        return Attempt(
            attempt=self.number,
            backend=self.choice.backend_id,
            status=status,
            started_at_ms=self.started_at_ms,
            first_token_at_ms=self.first_token_at_ms,
            finished_at_ms=self.clock.now_ms(),
            upstream_status=upstream_status,
            input_tokens=tokens.input_tokens,
            output_tokens=tokens.output_tokens,
            cached_tokens=tokens.cached_tokens,
            reasoning_tokens=tokens.reasoning_tokens,
            estimated=estimated,
            price_version=price.version if price else None,
            cost_nano_usd=used(price, tokens),
            provider_id=completion.provider_id if completion else None,
        )
