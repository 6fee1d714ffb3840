"""One attempt: a backend is called once and its answer relayed. Returns how it ended; never raises
for what backends do.

A stream's first content is announced to the ledger before it leaves, so that no second attempt can
start once the client has seen a byte.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

import aiohttp

from dispatcher.abort import Abort, Reason
from dispatcher.breaker import CallEnd
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
from schemas.runtime.store import StoreError

_LOG = logging.getLogger(__name__)

NoteStreamed = Callable[[], Awaitable[bool]]
"""Tells the ledger that content is about to leave; False when the fence is no longer ours."""

ABORTED: Final[dict[Reason, Ending]] = {
    "cancelled": Ending("cancelled", ErrorCode.REQUEST_CANCELLED),
    "stale": Ending("failed", ErrorCode.UPSTREAM_INTERRUPTED),
    "stopping": Ending("failed", ErrorCode.SERVICE_UNAVAILABLE),
}
"""What a request that was ended from outside amounts to."""

_VERDICTS: Final[dict[ErrorCode, CallEnd]] = {
    ErrorCode.NO_BACKEND: "unreachable",
    ErrorCode.UPSTREAM_REJECTED: "succeeded",
    ErrorCode.OVERLOADED: "undecided",
}
"""What a failure says of the backend; ``failed`` where nothing stands. One that refuses a bad request
works, and one that is full is neither well nor broken."""


@dataclass(frozen=True, slots=True)
class AttemptResult:
    """How the attempt ended."""

    attempt: Attempt
    ending: Ending
    may_try_another: bool
    may_have_spent: bool
    verdict: CallEnd


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
    is_mute: bool = field(default=False, init=False)
    """Whether a frame was lost, so that none may follow."""
    reader: StreamReader = field(init=False)

    async def run(self) -> AttemptResult:
        """Call the backend and relay its answer until it ends, fails, is aborted or too late."""
        self.started_at_ms = self.clock.now_ms()
        self.reader = StreamReader(relays_usage=self.job.request.include_usage)
        left_s = (self.job.request.deadline_ms - self.started_at_ms) / 1000
        timeout_s = min(left_s, self.choice.backend.timeout_s)
        try:
            async with asyncio.timeout(timeout_s) as scope:
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
            return self._ended_early(is_deadline=left_s <= self.choice.backend.timeout_s)

    async def _call(self) -> AttemptResult:
        request = self.job.request
        call = self.upstreams.chat(self.choice, request.payload, request.request_id)
        async with call as response:
            self.abort.answered()
            if request.stream:
                return await self._relay(response)
            body = await self.upstreams.body(response)
        return self._completed(read_body(body), body)

    async def _relay(self, response: aiohttp.ClientResponse) -> AttemptResult:
        """Relay events as they come; what arrives while a frame is stored joins the next frame."""
        async for received in response.content.iter_any():
            if events := self.reader.feed(received):
                await self._pass_on(events)
            if self.abort.is_drained(len(received)):
                return self._ended_early(is_deadline=False)
        if self.reader.failed or not self.reader.done:
            raise UpstreamFailure(
                ErrorCode.UPSTREAM_INTERRUPTED,
                "the backend broke off in mid-stream",
                may_have_spent=True,
            )
        return self._completed(self.reader.completion(), b"")

    async def _pass_on(self, events: bytes) -> None:
        """Send the events on, the first ones behind a note to the ledger.

        Once the fence or a frame is lost none follows: a client must not get a torn stream.
        """
        if self.first_token_at_ms is None:
            if not await self.note_streamed():
                self.abort.end("stale")
            self.first_token_at_ms = self.clock.now_ms()
            await self._send(Started(self.choice.backend_id, self.job.admitted.rate_status))
        await self._send(Chunk(events))

    async def _send(self, content: Started | Chunk) -> None:
        if self.is_mute or self.abort.reason == "stale":
            return
        try:
            self.is_mute = not await self.replies.send(content)
        except StoreError as error:
            _LOG.error("the bus refused a frame of %s: %s", self.job.request.request_id, error)
            self.is_mute = True

    def _completed(self, completion: Completion, body: bytes) -> AttemptResult:
        is_cancelled = self.abort.reason == "cancelled"
        status = "cancelled" if is_cancelled else "succeeded"
        return AttemptResult(
            self._attempt(status, completion, upstream_status=200),
            ABORTED["cancelled"] if is_cancelled else Ending("completed", body=body),
            may_try_another=False,
            may_have_spent=True,
            verdict="succeeded",
        )

    def _failed(self, failure: UpstreamFailure) -> AttemptResult:
        if self.abort.reason is not None:
            return self._ended_early(is_deadline=False, may_have_spent=failure.may_have_spent)
        streamed = self.first_token_at_ms is not None
        attempt = self._attempt(
            "interrupted" if streamed else "failed",
            self.reader.completion() if failure.may_have_spent else None,
            upstream_status=failure.upstream_status,
        )
        _LOG.info("%s failed at %s: %s", self.job.request.request_id, attempt.backend, failure)
        rejected = failure.code is ErrorCode.UPSTREAM_REJECTED
        ending = Ending(
            "failed",
            failure.code,
            http_status=failure.upstream_status if rejected else None,
            # The backend's own words are for the client; what a library says names our hosts.
            message=failure.message if failure.upstream_status is not None else None,
            retry_after_ms=failure.retry_after_ms,
        )
        return AttemptResult(
            attempt,
            ending,
            may_try_another=failure.retryable and not streamed,
            may_have_spent=failure.may_have_spent,
            verdict=_VERDICTS.get(failure.code, "failed"),
        )

    def _ended_early(self, *, is_deadline: bool, may_have_spent: bool = True) -> AttemptResult:
        """The deadline, the backend's own timeout, or somebody ended it.

        Only the backend's timeout speaks against the backend: how long a client waits is its choice.
        """
        reason = self.abort.reason
        status = "cancelled" if reason == "cancelled" else "interrupted"
        is_backends_fault = reason is None and not is_deadline
        return AttemptResult(
            self._attempt(status, self.reader.completion() if may_have_spent else None, None),
            ABORTED[reason] if reason else Ending("failed", ErrorCode.DEADLINE_EXCEEDED),
            may_try_another=is_backends_fault and self.first_token_at_ms is None,
            may_have_spent=may_have_spent,
            verdict="failed" if is_backends_fault else "undecided",
        )

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
