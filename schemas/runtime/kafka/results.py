"""Results too large for their outcome: records of their own, read back through a reference.

A result is acknowledged by the broker before the ledger is told that its request has ended, so an
outcome never refers to what is not there. One that nothing refers to is harmless and expires.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final, Protocol

import msgspec

from schemas.events import RecordRef, RequestFinished
from schemas.log_events import LogEvent
from schemas.runtime.kafka.record_reader import RecordGone
from schemas.runtime.process.event_log import EventLog

_LOG = EventLog(__name__)

RESULT_INLINE_BYTES_MAX: Final = 4 * 1024
"""Larger results stay out of outcomes, and so out of the ledger."""
READ_WITHIN_S: Final = 5.0


def is_inline(result: bytes | None, bytes_max: int = RESULT_INLINE_BYTES_MAX) -> bool:
    """Whether the result travels in its outcome."""
    return result is None or len(result) <= bytes_max


def referring(finished: RequestFinished, ref: RecordRef) -> RequestFinished:
    """The outcome with a reference in the place of its result."""
    digest = _sha256(finished.result or b"")
    return msgspec.structs.replace(finished, result=None, result_ref=ref, result_sha256=digest)


class Records(Protocol):
    """The log, read by reference."""

    async def read(self, ref: RecordRef, within_s: float) -> bytes | None:
        """The value of one record; raises ``RecordUnreadable``."""

    async def stop(self) -> None:
        """Disconnect."""


@dataclass(frozen=True, slots=True)
class Results:
    """Reads results back."""

    records: Records

    async def restored(self, finished: RequestFinished) -> RequestFinished:
        """The outcome with its result; without any when that is lost. Raises ``RecordUnreadable``."""
        if finished.result_ref is None:
            return finished
        try:
            result = await self.records.read(finished.result_ref, READ_WITHIN_S)
        except RecordGone as error:
            _LOG.event(LogEvent.RESULT_LOST, request_id=finished.request_id, error=error)
            return finished
        if result is None or _sha256(result) != finished.result_sha256:
            _LOG.event(LogEvent.RESULT_DIFFERS, request_id=finished.request_id)
            return finished
        return msgspec.structs.replace(finished, result=result)


def _sha256(result: bytes) -> str:
    return hashlib.sha256(result).hexdigest()
