"""One attempt: a backend is called once and its answer relayed. Returns how it ended; raises nothing but
a cancellation, whatever a backend does or sends.

A stream may last as long as its request, and at most the backend's ``total_timeout_s``, while a whole event
arrives within each ``idle_timeout_s`` (``relay``).
"""

from __future__ import annotations

import asyncio
import traceback
from dataclasses import dataclass, field
from typing import Final

from msgspec.structs import replace

from dispatcher.abort import Abort
from dispatcher.attempts import attempt_end
from dispatcher.attempts.attempt_end import AttemptEnd, AttemptResult
from dispatcher.attempts.dialects import TRIES_MAX, Dialects, taught
from dispatcher.attempts.excess import Excesses, Judged
from dispatcher.attempts.gathered import Gathered, whole_answer
from dispatcher.attempts.patience import Patience
from dispatcher.attempts.reckoning import UNUSED, attempt_of
from dispatcher.attempts.relay import NoteStreamed, Relay
from dispatcher.attempts.token_counts import TokenCounter
from dispatcher.operations.binding import Answer, Binding, Unaskable, nothing_read
from dispatcher.operations.bindings import binding_of
from dispatcher.operations.dialect import Dialect
from dispatcher.operations.flex import events_told_flex, says_tier, told_flex
from dispatcher.replies import ReplyStream
from dispatcher.upstream.backend_words import BackendError
from dispatcher.upstream.event_splitter import UpstreamGarbage
from dispatcher.upstream.upstream_failure import (
    UpstreamFailure,
    error_in_answer,
    unaskable,
    unreadable,
)
from dispatcher.upstream.upstreams import Upstreams
from dispatcher.work import AdmittedRequest, Choice
from schemas.log_events import LogEvent
from schemas.operations import OPERATIONS
from schemas.runtime.process.clock import Clock
from schemas.runtime.process.event_log import EventLog, of_request

_LOG = EventLog(__name__)

_JOINED_AT_ONCE_BYTES_MAX: Final = 32 * 1024
_READ_AT_ONCE_BYTES_MAX: Final = 256 * 1024
"""Larger bodies are read beside the event loop."""


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
    traceparent: str | None = None
    """The context of its span, for the backend, where the request is traced."""
    binding: Binding = field(init=False)
    patience: Patience = field(init=False)
    relay: Relay | None = field(default=None, init=False)
    """Of a stream, once it is asked for."""

    async def run(self) -> AttemptResult:
        """Call the backend and relay its answer until it ends, fails, is aborted or too late."""
        request, started_at_ms = self.job.request, self.clock.now_ms()
        now_s, left_s = (
            asyncio.get_running_loop().time(),
            (request.deadline_ms - started_at_ms) / 1000,
        )
        self.patience = Patience.of(self.choice.backend, now_s, left_s, streams=request.stream)
        end = await self._end(self.patience.until_s(now_s))
        judged = UNUSED if end.answer is None else await self._judged(end.answer)
        attempt = attempt_of(
            self.job,
            self.choice,
            self.number,
            end,
            judged,
            started_at_ms,
            self.relay.first_token_at_ms if self.relay else None,
            self.clock.now_ms(),
        )
        return AttemptResult(
            attempt, end.ending, end.may_try_another, end.may_have_spent, end.verdict, end.is_cut
        )

    @property
    def has_streamed(self) -> bool:
        """Whether the client may have seen content, so that nobody else may answer it."""
        return self.relay is not None and self.relay.has_streamed

    async def _end(self, silent_until_s: float) -> AttemptEnd:
        """The total boundary around what a backend sends."""
        scope = asyncio.timeout_at(silent_until_s)
        try:
            async with scope:
                self.abort.watch(scope)
                try:
                    protocol = self.choice.backend.protocol
                    now_s = self.clock.now_ms() // 1000
                    self.binding = binding_of(self.job.request, protocol, now_s)
                    return await self._call()
                finally:
                    self.abort.unwatch()
        except UpstreamFailure as failure:
            return self._failed(failure)
        except Unaskable as error:
            return self._failed(unaskable(str(error), error.param))
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

    def _timed_out(self, at_s: float | None) -> AttemptEnd:
        if self.relay is not None and self.relay.is_whole:
            return attempt_end.completed(self.relay.reader.answer(), b"", self.abort.reason)
        is_over = at_s == self.patience.ends_s and self.has_streamed
        return self._ended_early(is_silence=at_s != self.patience.deadline_s and not is_over)

    async def _call(self) -> AttemptEnd:
        """Call the backend, and again where its refusal teaches how: that has spent nothing."""
        choice, model = self.choice, self.job.request.model
        known = spoken = self.dialects.spoken(choice, model)
        for _ in range(TRIES_MAX - 1):
            try:
                return await self._say(spoken, is_new=spoken is not known)
            except UpstreamFailure as failure:
                # Anthropic's protocol has no dialects.
                lesson = None
                if choice.backend.protocol == "openai":
                    lesson = taught(failure, self.job, spoken)
                if lesson is None:
                    raise
                spoken = lesson
        return await self._say(spoken, is_new=True)

    async def _say(self, spoken: Dialect, *, is_new: bool) -> AttemptEnd:
        """One call in a dialect, which is remembered where it is new and was understood."""
        request, choice = self.job.request, self.choice
        self.relay = self._relay()
        headers = self.binding.headers
        call = self.upstreams.call(
            choice,
            OPERATIONS[request.route],
            await self._encoded(spoken),
            request.request_id,
            fresh=self.number > 1,  # Nobody follows it, should the connection be closing.
            traceparent=self.traceparent,
            more=None if headers is None else headers(request.payload, choice.backend),
        )
        async with call as response:
            self.abort.answered()
            if is_new:
                self.dialects.answered(choice, request.model, spoken)
            if self.relay is not None:
                if not await self.relay.run(response):
                    return self._ended_early(is_silence=False)
                answer, kept = self.relay.reader.answer(), await self._kept(self.relay)
                return attempt_end.completed(answer, b"", self.abort.reason, kept)
            body = await self.upstreams.body(response)
        answer, body = await self._read(body)
        if says_tier(request):
            body = told_flex(body)
        return attempt_end.completed(answer, body, self.abort.reason)

    async def _encoded(self, spoken: Dialect) -> bytes:
        """The body for the backend; what has to be built anew is not built beside others' calls where it is large."""
        payload, encode = self.job.request.payload, self.binding.encode
        if self.choice.backend.protocol == "openai" or len(payload) <= _READ_AT_ONCE_BYTES_MAX:
            return encode(payload, self.choice, spoken)
        return await self.counter.beside_the_loop(
            lambda body: encode(body, self.choice, spoken), payload
        )

    def _relay(self) -> Relay | None:
        """What passes the answer on piece by piece; ``None`` where it is given whole."""
        request = self.job.request
        if not request.stream or self.binding.stream is None:
            return None
        return Relay(
            self.job,
            self.choice,
            self.binding.stream(request.include_usage),
            self.replies,
            self.note_streamed,
            self.abort,
            self.counter,
            self.patience,
            self.clock,
            gathered=None if request.shown is None else Gathered(),
            tell=events_told_flex if says_tier(request) else None,
        )

    async def _kept(self, relay: Relay) -> bytes:
        """The streamed answer as one, where its outcome keeps it."""
        if relay.gathered is None:
            return b""
        events = relay.gathered.taken()
        if len(events) <= _JOINED_AT_ONCE_BYTES_MAX:
            return whole_answer(events)
        return await self.counter.beside_the_loop(whole_answer, events)

    async def _read(self, body: bytes) -> tuple[Answer, bytes]:
        if len(body) <= _READ_AT_ONCE_BYTES_MAX:
            return self.binding.read(body)
        return await self.counter.beside_the_loop(self.binding.read, body)

    def _read_so_far(self) -> Answer:
        return nothing_read() if self.relay is None else self.relay.reader.answer()

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

    async def _judged(self, read: Answer) -> Judged:
        """The backend's own counts, as far as they can be; else exact counts of the text."""
        counts = read.usage
        if counts is None:
            payload = self.job.request.payload
            counts = await self.counter.estimate(self.binding.count, payload, read.output)
            if read.input_told is None:
                return Judged(counts)
            counts = replace(
                read.input_told, output_tokens=counts.output_tokens, reasoning_tokens=0
            )
        return self.excesses.judge(self.job, self.choice, self.number, counts)
