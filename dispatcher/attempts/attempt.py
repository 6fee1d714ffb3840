"""One attempt: a backend is called once and its answer relayed. Returns how it ended; raises nothing but
a cancellation, whatever a backend does or sends.

A stream's first content is announced to the ledger before it leaves, so that no second attempt can
start once the client has seen a byte. A stream may last as long as its request, and at most the backend's
``total_timeout_s``, while a whole event arrives within each ``idle_timeout_s``. What is waited for the
ledger or the bus is no silence of the backend's. What is good of an answer leaves first, whatever follows it.
"""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Awaitable, Callable, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field
from typing import Final

import aiohttp
import msgspec

from dispatcher.abort import Abort
from dispatcher.amounts import NOTHING, as_asked, tool_calls, used
from dispatcher.attempts import attempt_end
from dispatcher.attempts.attempt_end import AttemptEnd
from dispatcher.attempts.dialects import TRIES_MAX, Dialects, taught
from dispatcher.attempts.excess import Excesses, Judged
from dispatcher.attempts.token_counts import TokenCounter
from dispatcher.backends.breaker import CallEnd
from dispatcher.operations.binding import Answer, Binding, StreamReader, nothing_read
from dispatcher.operations.bindings import BINDINGS
from dispatcher.operations.dialect import Dialect
from dispatcher.replies import ReplyStream
from dispatcher.upstream.backend_words import BackendError
from dispatcher.upstream.event_splitter import UpstreamGarbage
from dispatcher.upstream.upstream_failure import (
    UpstreamFailure,
    error_in_answer,
    stream_without_end,
    unreadable,
)
from dispatcher.upstream.upstreams import Upstreams, pieces
from dispatcher.work import AdmittedRequest, Choice, Result
from schemas.events import Attempt
from schemas.frames import Chunk, Started
from schemas.log_events import LogEvent
from schemas.operations import OPERATIONS
from schemas.pricing.tiers import serving
from schemas.rates import rates_of
from schemas.runtime.process.clock import Clock
from schemas.runtime.process.event_log import EventLog, of_request
from schemas.runtime.valkey.store import StoreError

_LOG = EventLog(__name__)

_READ_AT_ONCE_BYTES_MAX: Final = 256 * 1024
"""Larger bodies are read beside the event loop."""

_STORE_WAIT_S: Final = 7.0
"""What a store that hangs holds up one frame at most; a backend with less time is excused each time."""

_AFTER_DONE_S: Final = 0.25
"""How long the end of a body may take once its stream is complete: its connection is kept if it comes."""

NoteStreamed = Callable[[], Awaitable[bool]]
"""Tells the ledger that content is about to leave; False when the fence is no longer ours."""


class AttemptResult(msgspec.Struct, frozen=True):
    """How the attempt ended, and what it cost."""

    attempt: Attempt
    ending: Result
    may_try_another: bool
    may_have_spent: bool
    verdict: CallEnd
    is_cut: bool = False
    """Whether a kept connection ended before any answer, so that the same backend may be tried again."""


@dataclass(slots=True)
class AttemptRun:
    """Everything one attempt needs."""

    job: AdmittedRequest
    choice: Choice
    number: int
    replies: ReplyStream
    upstreams: Upstreams
    clock: Clock
    note_streamed: NoteStreamed
    abort: Abort
    counter: TokenCounter
    dialects: Dialects
    excesses: Excesses
    started_at_ms: int = field(init=False)
    first_token_at_ms: int | None = field(default=None, init=False)
    has_streamed: bool = field(default=False, init=False)
    """Whether the client may have seen content, so that nobody else may answer it."""
    is_stream_broken: bool = field(default=False, init=False)
    """Whether a frame was lost, so that none may follow."""
    binding: Binding = field(init=False)
    reader: StreamReader | None = field(default=None, init=False)
    """Of a stream, once it is asked for."""
    deadline_s: float = field(init=False)
    """The request's, in the event loop's time."""
    ends_s: float = field(init=False)
    """When the attempt ends at the latest, in the event loop's time."""

    async def run(self) -> AttemptResult:
        """Call the backend and relay its answer until it ends, fails, is aborted or too late."""
        self.started_at_ms = self.clock.now_ms()
        left_s = (self.job.request.deadline_ms - self.started_at_ms) / 1000
        now_s = asyncio.get_running_loop().time()
        self.deadline_s = now_s + left_s
        backend = self.choice.backend
        total_s = backend.total_timeout_s if self.job.request.stream else backend.timeout_s
        self.ends_s = min(self.deadline_s, now_s + total_s)
        self.binding = BINDINGS[self.job.request.route]
        end = await self._end()
        return AttemptResult(
            await self._attempt(end),
            end.ending,
            end.may_try_another,
            end.may_have_spent,
            end.verdict,
            end.is_cut,
        )

    async def _end(self) -> AttemptEnd:
        """The total boundary around what a backend sends."""
        scope = asyncio.timeout_at(self._silent_until_s())
        try:
            async with scope:
                self.abort.watch(scope)
                try:
                    return await self._call()
                finally:
                    self.abort.unwatch()
        except UpstreamFailure as failure:
            return self._failed(failure)
        except UpstreamGarbage as error:
            return self._failed(unreadable(str(error)))
        except BackendError as error:
            return self._failed(error_in_answer(error.words, has_begun=self.has_streamed))
        except TimeoutError:
            return self._timed_out(scope.when())
        except Exception as error:  # noqa: BLE001  # nobody can list what odd bytes raise; they end this attempt only
            *_, (frame, line) = traceback.walk_tb(error.__traceback__)
            what = f"{type(error).__name__} at {frame.f_code.co_filename}:{line}"
            _LOG.event(
                LogEvent.ATTEMPT_DEFECT,
                **of_request(self.job.request),
                attempt=self.number,
                cause=what,
            )
            return self._failed(unreadable(what))

    def _silent_until_s(self) -> float:
        """Until when the call may go on without progress; a whole answer shows none before it is there."""
        if not self.job.request.stream:
            return self.ends_s
        silence_s = asyncio.get_running_loop().time() + self.choice.backend.silence_s
        return min(self.ends_s, silence_s)

    def _timed_out(self, at_s: float | None) -> AttemptEnd:
        if self.reader is not None and self.reader.done:
            return attempt_end.completed(self.reader.answer(), b"", self.abort.reason)
        is_over = at_s == self.ends_s and self.has_streamed
        return self._ended_early(is_silence=at_s != self.deadline_s and not is_over)

    async def _call(self) -> AttemptEnd:
        """Call the backend, and again where its refusal teaches how: that has spent nothing."""
        choice, model = self.choice, self.job.request.model
        known = spoken = self.dialects.spoken(choice, model)
        for _ in range(TRIES_MAX - 1):
            try:
                return await self._say(spoken, is_new=spoken is not known)
            except UpstreamFailure as failure:
                lesson = taught(failure, self.job, spoken)
                if lesson is None:
                    raise
                spoken = lesson
        return await self._say(spoken, is_new=True)

    async def _say(self, spoken: Dialect, *, is_new: bool) -> AttemptEnd:
        """One call in a dialect, which is remembered where it is new and was understood."""
        request, choice = self.job.request, self.choice
        if request.stream and self.binding.stream is not None:
            self.reader = self.binding.stream(request.include_usage)
        call = self.upstreams.call(
            choice,
            OPERATIONS[request.route],
            self.binding.encode(request.payload, choice, spoken),
            request.request_id,
            fresh=self.number > 1,  # Nobody follows it, should the connection be closing.
        )
        async with call as response:
            self.abort.answered()
            if is_new:
                self.dialects.answered(choice, request.model, spoken)
            if self.reader is not None:
                return await self._relay(response, self.reader)
            body = await self.upstreams.body(response)
        answer, body = await self._read(body)
        return attempt_end.completed(answer, body, self.abort.reason)

    async def _read(self, body: bytes) -> tuple[Answer, bytes]:
        if len(body) <= _READ_AT_ONCE_BYTES_MAX:
            return self.binding.read(body)
        return await self.counter.beside_the_loop(self.binding.read, body)

    def _read_so_far(self) -> Answer:
        return nothing_read() if self.reader is None else self.reader.answer()

    async def _relay(self, response: aiohttp.ClientResponse, reader: StreamReader) -> AttemptEnd:
        """Relay events as they come; what arrives while a frame is stored joins the next frame."""
        precision_s = min(1.0, self.choice.backend.silence_s / 20)
        torn: aiohttp.ClientError | None = None
        try:
            async with aclosing(pieces(response)) as body:
                async for received in body:
                    was_done = reader.done
                    if events := reader.feed(received):
                        await self._pass_on(events)
                        self.abort.moved_on(self._silent_until_s(), precision_s)
                    if reader.error is not None or reader.garbage is not None:
                        break
                    if reader.done and not was_done:
                        self.abort.ends_at(asyncio.get_running_loop().time() + _AFTER_DONE_S)
                    if reader.output.is_full:
                        await self.counter.fold(reader.output)
                    if self.abort.is_drained(len(received)):
                        return self._ended_early(is_silence=False)
        except aiohttp.ClientError as error:
            torn = error
        if events := reader.finish():
            await self._pass_on(events)
        self._judge(reader, torn)
        return attempt_end.completed(reader.answer(), b"", self.abort.reason)

    def _judge(self, reader: StreamReader, torn: aiohttp.ClientError | None) -> None:
        """Raises what is wrong with a stream that has ended; nothing is missing once it says that it is done,
        or why it ends, and its usage has come or could not."""
        if reader.error is not None:
            raise error_in_answer(reader.error, has_begun=self.has_streamed)
        if reader.done or (reader.has_ended and (torn is None or reader.usage is not None)):
            return
        if torn is not None:
            raise torn
        if reader.garbage is not None:
            raise unreadable(str(reader.garbage), reader.said)
        raise stream_without_end(reader.said)

    async def _pass_on(self, events: bytes) -> None:
        """Send the events on, the first ones behind a note to the ledger.

        Once the fence or a frame is lost none follows: a client must not get a torn stream.
        """
        if self.first_token_at_ms is None:
            self.first_token_at_ms = self.clock.now_ms()
            with self._excused():
                if not await self.note_streamed():
                    self.abort.end("stale")
            self.has_streamed = True
            await self._send(Started(self.choice.backend_id, rates_of(self.job.admitted)))
        await self._send(Chunk(events))

    @contextmanager
    def _excused(self) -> Iterator[None]:
        """What is waited for inside is not the backend: only the deadline ends that."""
        self.abort.ends_at(self.deadline_s)
        try:
            yield
        finally:
            self.abort.ends_at(self._silent_until_s())

    async def _send(self, content: Started | Chunk) -> None:
        if self.is_stream_broken or self.abort.reason == "stale":
            return
        try:
            if self.choice.backend.silence_s >= _STORE_WAIT_S:
                self.is_stream_broken = not await self.replies.send(content)
            else:
                with self._excused():
                    self.is_stream_broken = not await self.replies.send(content)
            if self.replies.is_full:
                with self._excused():
                    self.is_stream_broken = not await self.replies.wait()
        except StoreError as error:
            _LOG.event(LogEvent.FRAMES_LOST, **of_request(self.job.request), error=error)
            self.is_stream_broken = True

    def _failed(self, failure: UpstreamFailure) -> AttemptEnd:
        if self.abort.reason is not None:
            return self._ended_early(is_silence=False, may_have_spent=failure.may_have_spent)
        _LOG.event(
            LogEvent.ATTEMPT_FAILED,
            **of_request(self.job.request),
            attempt=self.number,
            backend=self.choice.backend_id,
            code=failure.code,
            cause=str(failure),
        )
        failure.words = failure.words.without(self.upstreams.hidden(self.choice.backend))
        read = self._read_so_far()
        return attempt_end.failed(failure, read, has_streamed=self.has_streamed)

    def _ended_early(self, *, is_silence: bool, may_have_spent: bool = True) -> AttemptEnd:
        return attempt_end.ended_early(
            self.abort.reason,
            self._read_so_far(),
            is_silence=is_silence,
            has_streamed=self.has_streamed,
            may_have_spent=may_have_spent,
        )

    async def _used(self, read: Answer) -> Judged:
        """The backend's own counts, as far as they can be; else exact counts of the text."""
        if read.usage is not None:
            return self.excesses.judge(self.job, self.choice, self.number, read.usage)
        payload = self.job.request.payload
        return Judged(await self.counter.estimate(self.binding.count, payload, read.output))

    async def _attempt(self, end: AttemptEnd) -> Attempt:
        """The attempt as booked, marked where it is an estimate; nothing when the backend cannot have worked."""
        price, reach = self.job.admitted.price, self.job.request.reach
        tokens, told, read, tier = NOTHING, None, end.answer, None
        if read is not None:
            tokens, told = await self._used(read)
            tokens = as_asked(tokens, reach)
            tier = serving(read.service_tier, reach.service_tier if reach else None)
        return Attempt(
            attempt=self.number,
            backend=self.choice.backend_id,
            status=end.status,
            started_at_ms=self.started_at_ms,
            first_token_at_ms=self.first_token_at_ms,
            finished_at_ms=self.clock.now_ms(),
            upstream_status=end.upstream_status,
            input_tokens=tokens.input_tokens,
            output_tokens=tokens.output_tokens,
            cached_tokens=tokens.cached_tokens,
            reasoning_tokens=tokens.reasoning_tokens,
            estimated=read is not None and read.usage is None,
            price_version=price.version if price else None,
            cost_nano_usd=used(price, tokens, tier, self.choice.backend_id),
            provider_id=read.provider_id if read else None,
            cache_write_tokens=tokens.cache_write_tokens,
            cache_write_1h_tokens=tokens.cache_write_1h_tokens,
            audio_input_tokens=tokens.audio_input_tokens,
            image_input_tokens=tokens.image_input_tokens,
            audio_output_tokens=tokens.audio_output_tokens,
            image_output_tokens=tokens.image_output_tokens,
            tool_calls=tokens.tool_calls,
            tool_kinds=tool_calls(tokens),
            service_tier=tier,
            told_input_tokens=told.input_tokens if told else None,
            told_output_tokens=told.output_tokens if told else None,
        )
