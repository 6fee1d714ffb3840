"""Large bodies come late: from the bus, else from the log, once the call has its slot.

So a body is in memory only while its call runs, however many wait for their turn.
"""

from __future__ import annotations

from dataclasses import dataclass

from msgspec.structs import replace

from dispatcher.work import AdmittedRequest
from schemas.claim_check import is_elsewhere, with_payload
from schemas.codec import UNDECODABLE, decode_as
from schemas.events import RequestAccepted
from schemas.log_events import LogEvent
from schemas.runtime.kafka.record_reader import RecordReader, RecordUnreadable
from schemas.runtime.process.clock import Clock
from schemas.runtime.process.event_log import EventLog, of_request, place_of
from schemas.runtime.valkey.bodies import Bodies

_LOG = EventLog(__name__)


@dataclass(slots=True)
class BodySource:
    """Where the dispatcher takes bodies from that did not come with their requests."""

    bodies: Bodies
    reader: RecordReader
    clock: Clock

    async def whole(self, job: AdmittedRequest) -> AdmittedRequest | None:
        """The job with its body; ``None`` when nobody has that any more, or not in time."""
        request = job.request
        if not is_elsewhere(request):
            return job
        payload = await self.bodies.get(request.request_id)
        if not payload:
            payload = await self._from_log(job)
        return replace(job, request=with_payload(request, payload)) if payload else None

    async def drop(self, job: AdmittedRequest) -> None:
        """The request has ended: its body need not stay on the bus."""
        if job.admitted.payload_elsewhere:
            await self.bodies.drop(job.request.request_id)

    async def _from_log(self, job: AdmittedRequest) -> bytes | None:
        request, ref = job.request, job.admitted.accepted_ref
        left_s = (request.deadline_ms - self.clock.now_ms()) / 1000
        try:
            accepted = decode_as(await self.reader.read(ref, max(0.0, left_s)), RequestAccepted)
        except (RecordUnreadable, *UNDECODABLE) as error:
            _LOG.event(LogEvent.BODY_LOST, **of_request(request), **place_of(ref), error=error)
            return None
        if accepted.request_id != request.request_id:
            _LOG.event(
                LogEvent.BODY_LOST,
                **of_request(request),
                **place_of(ref),
                cause="it is another record",
            )
            return None
        return accepted.payload
