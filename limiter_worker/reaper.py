"""Ends what nobody else ends: holds whose request never ran, and attempts whose owner vanished.

The ledger lists an ended attempt again every 30 s until its outcome is in Kafka and confirmed. Whoever
writes the outcome owes the client its end: it goes out beside, under a fence above all frames before it.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from limiter_worker.replies import ReplySender
from schemas.attribution import found_by
from schemas.errors import ERRORS, ErrorCode
from schemas.events import Attempt, Booking, RequestFinished
from schemas.failures import Transient
from schemas.frames import Frame, Terminal
from schemas.hold_facts import HoldFacts
from schemas.job_ends import usage_of
from schemas.ledger import answers, documents
from schemas.log_events import LogEvent
from schemas.outgoing import Outgoing, outcome_record
from schemas.runtime.kafka.produce import Producer
from schemas.runtime.ledger.client import LedgerClient
from schemas.runtime.process.event_log import EventLog
from schemas.runtime.process.telemetry import Metrics
from schemas.times import FULL, Times
from schemas.written_off import written_off

_LOG = EventLog(__name__)

_ENTRIES_MAX = 256
"""Of a shard."""
_ROUNDS_MAX = 64
"""In a row, before the others of the process have their turn for a period."""


def outcome_of(entry: answers.ReapEntry, info: HoldFacts) -> RequestFinished:
    """The outcome of a reaped request: nothing was used, or its whole hold is booked as estimate.

    Its time is its deadline, so that every reaper makes the same bytes.
    """
    voided = entry.verdict == "VOIDED"
    code = ErrorCode.DEADLINE_EXCEEDED if voided else ErrorCode.UPSTREAM_INTERRUPTED
    first = [_attempt(entry, info, entry.first.attempt)] if entry.first is not None else []
    attempts = first if voided else [*first, _attempt(entry, info, entry.attempt)]
    booked = [] if voided else list(entry.holds)
    booked += list(entry.first.booked) if entry.first is not None else []
    return RequestFinished(
        **info.attribution(entry.org, entry.req),
        **found_by(info),
        status="expired" if voided else "failed",
        http_status=ERRORS[code].status,
        error_code=code,
        error_message=ERRORS[code].title,
        accepted_at_ms=entry.accepted_ms,
        finished_at_ms=entry.deadline_ms,
        deadline_ms=entry.deadline_ms,
        fence=0,
        attempts=attempts,
        bookings=[Booking(key=b.key, unit=b.unit, amount=b.amount) for b in booked],
        parents=[info.parent],
    )


def last_frame(entry: answers.ReapEntry, outcome: RequestFinished) -> Frame:
    """The frame that ends the client's wait; it says what the outcome says."""
    terminal = Terminal(
        http_status=outcome.http_status,
        error_code=outcome.error_code,
        error_message=outcome.error_message,
        usage=usage_of(outcome.attempts),
    )
    return Frame(entry.req, entry.fence, 1, terminal)


def _attempt(entry: answers.ReapEntry, info: HoldFacts, number: int) -> Attempt:
    """An attempt whose real usage nobody saw: what was booked for it, marked as an estimate."""
    booked, status = entry.holds, "unknown"
    if entry.first is not None and number == entry.first.attempt:
        booked = entry.first.booked
        status = entry.first.verdict.lower()
    return written_off(
        number,
        {b.unit: b.amount for b in booked},
        is_priced=any(b.unit == "nano_usd" for b in entry.holds),
        input_tokens_bound=info.input_tokens_bound,
        accepted_at_ms=entry.accepted_ms,
        deadline_ms=entry.deadline_ms,
        status=status,
    )


@dataclass(slots=True)
class Reaper:
    """Runs beside admission; several replicas may run at once."""

    ledger: LedgerClient
    producer: Producer
    replies: ReplySender
    metrics: Metrics
    times: Times = FULL

    async def run(self) -> None:
        """Reap again and again, for ever: at each time all that is due."""
        while True:
            try:
                for _ in range(_ROUNDS_MAX):
                    if not await self.reap():
                        break
            except Transient as error:
                _LOG.event(LogEvent.ROUND_WAITS, step="reap", error=error)
            except Exception as defect:  # noqa: BLE001  # total: reaping goes on whatever a round meets
                _LOG.event(LogEvent.ROUND_DEFECT, step="reap", defect=defect)
            await asyncio.sleep(self.times.reap_period_ms / 1000)

    async def reap(self) -> bool:
        """End some of what is due in each shard, all in one round trip; a shard that fails is not waited for.

        Returns whether it is worth looking for more at once. Raises what the first that failed raised.
        """
        found = await asyncio.gather(*map(self._reap, self.ledger.shards), return_exceptions=True)
        if failures := [each for each in found if isinstance(each, BaseException)]:
            raise failures[0]
        return any(found)

    async def _reap(self, shard: int) -> bool:
        """Confirm each whose outcome is in Kafka; the others come again."""
        reaped = await self.ledger.reap(
            shard, documents.Reap(limit=_ENTRIES_MAX, grace_ms=self.times.reap_grace_ms)
        )
        records = [(entry, self._ended(entry)) for entry in reaped.entries]
        sent = [(entry, self.producer.send(record)) for entry, record in records if record]
        if not sent:
            return False
        results = await asyncio.gather(*(sending for _, sending in sent), return_exceptions=True)
        kept = []
        for (entry, _), result in zip(sent, results, strict=True):
            if isinstance(result, BaseException):
                _LOG.event(
                    LogEvent.OUTCOME_WAITS, request_id=entry.req, org=entry.org, error=result
                )
            else:
                kept.append(entry)
                self.metrics.count("tallygate_reaped_attempts_total", entry.verdict.lower())
        if not kept:
            return False
        confirmed = tuple(documents.ReapedRequest(org=e.org, req=e.req) for e in kept)
        await self.ledger.reaped(shard, documents.Reaped(entries=confirmed))
        return len(kept) == len(sent)

    def _ended(self, entry: answers.ReapEntry) -> Outgoing | None:
        """Tell the client; the outcome's record. ``None`` when none can be made, which is that entry's
        misfortune."""
        try:
            info = HoldFacts.decoded(entry.info)
            outcome = outcome_of(entry, info)
            record = outcome_record(outcome, "limiter_worker")
            self.replies.put(last_frame(entry, outcome), info.reply_to, kept=info.keep_result)
        except Exception as error:  # noqa: BLE001  # total: one entry must not stop the others
            _LOG.event(LogEvent.NO_OUTCOME, request_id=entry.req, org=entry.org, error=error)
            return None
        return record
