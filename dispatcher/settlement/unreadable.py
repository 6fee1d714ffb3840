"""Ends a request whose admission cannot be read: a header names it, and the ledger and the log know the rest.

Otherwise its client would wait for its deadline, and its hold with it.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from dispatcher.settlement.closing import Closing
from dispatcher.work import AdmittedRequest
from schemas.codec import UNDECODABLE, decode_as
from schemas.events import RecordRef, RequestAccepted, RequestAdmitted
from schemas.hold_facts import HoldFacts
from schemas.ledger import keys
from schemas.ledger.shards import Shards
from schemas.log_events import LogEvent
from schemas.runtime.kafka.consume.dead_letters import DeadLetters
from schemas.runtime.kafka.consume.records import Record
from schemas.runtime.kafka.record_reader import RecordReader
from schemas.runtime.process.event_log import EventLog, place_of, traced
from schemas.runtime.process.telemetry import Metrics
from schemas.runtime.valkey.store import Store

__all__ = ["Unreadable"]

_LOG = EventLog(__name__)

_WITHIN_S: Final = 10.0
"""Then the reaper is left to end it."""
_ID: Final = re.compile(rb"[0-9A-Za-z-]{1,64}")
_SCAN_COUNT: Final = 1_000


@dataclass(slots=True)
class Unreadable:
    """Takes records that are no admission, or whose handling failed outside of any boundary."""

    store: Store
    shards: Callable[[], Shards]
    """All shards of the ledger; raises ``LedgerUnavailable`` while they are not known."""
    records: RecordReader
    closing: Closing
    dead_letters: DeadLetters
    metrics: Metrics

    async def end(self, record: Record, error: Exception) -> None:
        """End the request that the record names, if it waits to be run, and keep the record. Raises only
        ``TooManyDeadLetters``, and what a broker that stays away makes of the letter."""
        try:
            async with asyncio.timeout(_WITHIN_S):
                if (job := await self._job_of(record)) is not None:
                    await self.closing.end_broken(job, record)
        except Exception as defect:  # noqa: BLE001  # total: the record must be kept whatever is amiss beside it
            _LOG.event(
                LogEvent.NO_OUTCOME, **place_of(record), **traced(record.headers), defect=defect
            )
        await self.dead_letters.take(record, "decode", error)
        self.metrics.count("tallygate_dead_letters_total", record.topic)

    async def _job_of(self, record: Record) -> AdmittedRequest | None:
        """The request as it was accepted, while its hold waits for somebody to run it."""
        request_id = record.headers.get("request_id", b"")
        if not _ID.fullmatch(request_id):
            return None
        attempt = await self._attempt_of(request_id)
        if attempt is None:
            return None
        state, info = await self.store.call("HMGET", attempt, "state", "info")
        if state != b"RESERVED" or not info:
            return None
        ref = HoldFacts.decoded(info.decode()).parent
        try:
            request = decode_as(await self.records.read(ref, _WITHIN_S), RequestAccepted)
        except UNDECODABLE as error:
            _LOG.event(LogEvent.NO_OUTCOME, **place_of(ref), **traced(record.headers), error=error)
            return None
        return AdmittedRequest(_admitted(request, ref, record.timestamp_ms), request, record.ref)

    async def _attempt_of(self, request_id: bytes) -> str | None:
        """The key of its attempt: what is on hold is listed by shard, organization and request."""
        for shard in self.shards():
            org = await self._org_in(keys.of_shard(shard, keys.EXPIRING), request_id)
            if org is not None:
                return keys.attempt(shard, org, request_id.decode())
        return None

    async def _org_in(self, expiring: str, request_id: bytes) -> str | None:
        cursor: Any = b"0"
        while True:
            cursor, found = await self.store.call(
                "ZSCAN", expiring, cursor, "MATCH", b"*|" + request_id, "COUNT", _SCAN_COUNT
            )
            if found:
                member: bytes = found[0]
                return member.rpartition(b"|")[0].decode()
            if int(cursor) == 0:
                return None


def _admitted(request: RequestAccepted, ref: RecordRef, at_ms: int) -> RequestAdmitted:
    """As much of the admission as an end without an attempt needs; its holds are in the ledger."""
    return RequestAdmitted(
        request_id=request.request_id,
        org=request.org,
        accepted=b"",
        accepted_ref=ref,
        admitted_at_ms=at_ms,
        holds=[],
        rates=[],
        config_offset=request.config_offset,
    )
