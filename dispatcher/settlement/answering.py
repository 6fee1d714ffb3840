"""Tells clients how their requests ended: whoever writes the outcome that stands owes them that, whatever
frames an earlier owner left. A bus that is away is waited for until nobody asks any more.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

import msgspec

from dispatcher.amounts import ending_again, terminal
from dispatcher.replies import GRACE_S, ReplyStream, Room
from dispatcher.work import AdmittedRequest, Result
from schemas.errors import ERRORS, ErrorCode
from schemas.events import Attempt, RequestFinished
from schemas.frames import Frame, Terminal
from schemas.log_events import LogEvent
from schemas.runtime.kafka.record_reader import RecordUnreadable
from schemas.runtime.kafka.results import Results
from schemas.runtime.process.clock import Clock
from schemas.runtime.process.event_log import EventLog, of_request
from schemas.runtime.process.retry import retry_until
from schemas.runtime.valkey.bus import Bus
from schemas.runtime.valkey.store import StoreError, StoreUnavailable

_LOG = EventLog(__name__)

_LAST_FENCE: Final = 2**62
"""Above those of all attempts: the client may have seen frames that the bus has lost since."""


@dataclass(slots=True)
class Answering:
    """Sends the frames of all requests of the process."""

    bus: Bus
    results: Results
    clock: Clock
    room: Room = field(default_factory=Room)

    def replies(self, job: AdmittedRequest, fence: int) -> ReplyStream:
        """The frames of the request under this fence."""
        request = job.request
        return ReplyStream(
            self.bus,
            request.request_id,
            request.reply_to,
            fence,
            request.keep_result,
            self.give_up_at_s(job),
            request.org,
            room=self.room,
            of_job=request.background and request.idempotency_hash is None,
        )

    def give_up_at_s(self, job: AdmittedRequest) -> float:
        """Monotonic time at which nobody waits for the request's end any more."""
        left_s = max(0, job.request.deadline_ms - self.clock.now_ms()) / 1000
        return self.clock.monotonic_s() + left_s + GRACE_S

    async def end(self, replies: ReplyStream, content: Terminal) -> None:
        """End the client's wait, if need be without the answer; what goes wrong here is the bus's."""
        await self.tell(replies, content)
        await replies.wait()

    async def tell(self, replies: ReplyStream, content: Terminal) -> None:
        """The same, but for a bus that is away: the frame waits for it in ``replies``."""
        try:
            await replies.send(_without_body(content) if replies.is_torn else content)
        except Exception as defect:  # noqa: BLE001  # total: the outcome must reach the log all the same
            _LOG.event(LogEvent.NOT_ANSWERED, **of_request(replies), defect=defect)
            with suppress(Exception):  # total: nothing is left to say then
                await replies.send(_without_body(content))

    async def repeat(self, job: AdmittedRequest, finished: RequestFinished) -> None:
        """Tell how the request ended, from its outcome, unless its client knows."""
        if job.request.stream:
            # A stream is its frames: its answer as one is for whoever refers to it.
            finished = msgspec.structs.replace(finished, result=None, result_ref=None)
        try:
            finished = await retry_until(
                lambda: self.results.restored(finished), RecordUnreadable, self.give_up_at_s(job)
            )
        except RecordUnreadable as error:
            # Whoever asks later may find it: nothing is said that would not be true then.
            _LOG.event(LogEvent.NOT_TOLD_AGAIN, **of_request(finished), error=error)
            return
        last = await self._last(job)
        has_chunks = last is not None and last.fence == finished.fence and last.seq > 0
        ending = ending_again(finished, has_chunks=has_chunks)
        await self._end_after(last, _LAST_FENCE, job, ending, finished.attempts)

    async def end_again(
        self, job: AdmittedRequest, ending: Result, *, has_run: bool = True
    ) -> None:
        """End a client's wait after frames of an earlier owner, if there was one, unless it was ended
        already."""
        fence = _LAST_FENCE if has_run else 0
        await self._end_after(await self._last(job), fence, job, ending, ())

    async def _end_after(
        self,
        last: Frame | None,
        fence: int,
        job: AdmittedRequest,
        ending: Result,
        attempts: Sequence[Attempt],
    ) -> None:
        if last is not None and isinstance(last.content, Terminal):
            return
        replies = self.replies(job, last.fence if last else fence)
        replies.seq = last.seq if last else 0
        await self.end(replies, terminal(job, attempts, ending, self.clock.now_ms()))

    async def _last(self, job: AdmittedRequest) -> Frame | None:
        """The newest frame that the bus has of the request; none while the bus is away for too long."""
        request_id = job.request.request_id
        try:
            return await retry_until(
                lambda: self.bus.last(request_id), StoreUnavailable, self.give_up_at_s(job)
            )
        except (StoreUnavailable, StoreError, msgspec.DecodeError) as error:
            _LOG.event(LogEvent.FRAMES_UNKNOWN, **of_request(job.request), error=error)
            return None


def _without_body(content: Terminal) -> Terminal:
    """The same end for the client, its answer lost."""
    if content.error_code:
        return msgspec.structs.replace(content, body=b"", error_message=None)
    code = ErrorCode.RESULT_LOST
    return msgspec.structs.replace(
        content, http_status=ERRORS[code].status, body=b"", error_code=code
    )
