"""Admission: accepted requests in; dispatches, refusals and deferrals out.

One ledger round trip per batch, and a second one for those that would have to wait and must not. It
fails closed: what the ledger or the configuration does not answer for is left, to be asked again; none
is admitted or ended without the ledger's verdict. The first decision on an id holds for all its copies,
on its own terms. A request that cannot be decided ends alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import msgspec

from limiter_worker.accepted import accepted_of
from limiter_worker.admitted_terms import decoded_terms
from limiter_worker.culprits import Culprits
from limiter_worker.decisions import (
    Decidable,
    Dispatch,
    Rejection,
    decide,
    denial_in,
    end,
    may_be_forgotten,
    may_wait,
    was_produced_too_late,
)
from limiter_worker.deferral import ASK_AGAIN_MS, Wait, WaitingCounts, again_ms, wait_of
from limiter_worker.effects import Effects
from limiter_worker.external_budget.external_budget import ExternalBudget
from limiter_worker.external_budget.verdicts import stated_for
from limiter_worker.limits import UNAVAILABLE, AdmissionRequest, decline_terms, terms_of
from limiter_worker.readiness import standing_of
from limiter_worker.taken import Decided, Taken
from schemas.codec import UnknownSchema
from schemas.errors import ErrorCode
from schemas.failures import Failure
from schemas.flex import is_flex
from schemas.hold_facts import info_of
from schemas.ledger import answers
from schemas.ledger.documents import Decline
from schemas.ledger.errors import LedgerNotReady, LedgerUnavailable
from schemas.log_events import LogEvent
from schemas.metrics import decision_labels
from schemas.runtime.config.feed import ConfigFeed
from schemas.runtime.kafka.consume.records import Record
from schemas.runtime.ledger.client import LedgerClient
from schemas.runtime.process.clock import Clock
from schemas.runtime.process.event_log import EventLog
from schemas.runtime.process.telemetry import Metrics
from schemas.stated_limits import Defaults
from schemas.times import FULL

_LOG = EventLog(__name__)

_ROLLS_MAX = 5

Why: TypeAlias = Literal["config", "ledger", "closed", "limit", "deferred", "forgotten", "budget"]


class Left(msgspec.Struct, frozen=True):
    """A request without a decision, and what it waits for: the configuration, the ledger, its shard of the
    ledger that is closed alone, a limit that nobody stated, as a deferred one any limit, the log, which
    knows whether it ended long ago, or the external budget service."""

    taken: Taken
    why: Why
    due_ms: int = 0
    """When a deferred one is to be asked again."""


class _Open(msgspec.Struct, frozen=True):
    """A request of the batch that still needs its verdict."""

    taken: Taken
    terms: AdmissionRequest

    def without_waiting(self) -> _Open:
        """The same, to be refused for good: the ledger keeps that verdict."""
        admit = msgspec.structs.replace(self.terms.admit, defer=False)
        return msgspec.structs.replace(self, terms=msgspec.structs.replace(self.terms, admit=admit))


@dataclass(slots=True)
class _Round:
    """What has become of a batch so far."""

    open: list[_Open] = field(default_factory=list)
    decided: list[Decided] = field(default_factory=list)
    left: list[Left] = field(default_factory=list)


@dataclass(slots=True)
class Admission:
    """Decides batches of requests."""

    ledger: LedgerClient
    execution: Effects
    waiters: WaitingCounts
    config: ConfigFeed
    culprits: Culprits
    metrics: Metrics
    clock: Clock
    defaults: Defaults
    budget: ExternalBudget
    has_room: Callable[[], bool]
    """Whether one more may begin to wait for a limit."""
    ended_kept_ms: int = FULL.ledger.terminal_kept_ms
    """The ledger remembers an ended request at least this long past its deadline."""

    def take(self, batch: Sequence[Record]) -> list[Taken]:
        """The requests in the records; what is none is dead-lettered and finished beside that, and
        what a newer version wrote waits for it."""
        taken = []
        for record in batch:
            headers, appended_at_ms = record.headers, record.timestamp_ms
            try:
                accepted = accepted_of(record.value, headers, record.ref, appended_at_ms)
            except UnknownSchema as newer:
                record.hold(str(newer))
            except Exception as error:  # noqa: BLE001  # total: whatever the bytes do to the decoder
                self.culprits.bury(record, error)
            else:
                taken.append(Taken(record, accepted))
        return taken

    async def admit(self, batch: Sequence[Taken]) -> list[Left]:
        """Decide what can be decided; returns when the broker has what follows, and what is left.

        A defect that strikes the whole batch is searched for by halves, so that it costs one request.
        """
        if not batch:
            return []
        try:
            return await self._admit(batch)
        except Exception as error:  # noqa: BLE001  # total: whatever it is, it is one request's fault
            if len(batch) == 1:
                self.culprits.end(batch[0], error)
                return []
            _LOG.event(LogEvent.BATCH_FAILED, count=len(batch), defect=error)
        open_ones = [taken for taken in batch if not taken.record.is_finished]
        half = (len(open_ones) + 1) // 2
        return [*await self.admit(open_ones[:half]), *await self.admit(open_ones[half:])]

    async def _admit(self, batch: Sequence[Taken]) -> list[Left]:
        self.metrics.observe("tallygate_batch_records", len(batch))
        work = _Round()
        for taken in batch:
            try:
                self._sort(taken, work)
            except Exception as error:  # noqa: BLE001  # total: one request's defect ends that one
                self.culprits.end(taken, error)
        await self._ask(work)
        for each in work.decided:
            if not isinstance(each.decision, Wait):
                self.waiters.leave(each.accepted.request)
        await self.execution.carry_out(work.decided)
        return work.left

    def _sort(self, taken: Taken, work: _Round) -> None:
        """What can be said before the ledger is asked."""
        accepted = taken.accepted
        now_ms = self.clock.now_ms()
        happened_ms = self.clock.happened_ms(accepted.appended_at_ms)
        if not taken.is_first and may_be_forgotten(accepted.request, now_ms, self.ended_kept_ms):
            work.left.append(Left(taken, "forgotten"))
        elif now_ms < accepted.request.deadline_ms and was_produced_too_late(accepted, happened_ms):
            self._decline(taken, Decline(why="late"), work)
        elif taken.decline is not None:
            self._decline(taken, taken.decline, work)
        else:
            self._find_terms(taken, now_ms, work)

    def _find_terms(self, taken: Taken, now_ms: int, work: _Round) -> None:
        accepted = taken.accepted
        standing = standing_of(accepted.request, self.config.snapshot)
        if standing == "not_yet" or (standing == "closed" and accepted.request.background):
            work.left.append(Left(taken, "config"))
        elif standing == "closed":
            self._decline(taken, UNAVAILABLE, work)
        elif standing == "revoked":
            self._decline(taken, Decline(why="revoked"), work)
        else:
            self._agree(taken, now_ms, work)

    def _agree(self, taken: Taken, now_ms: int, work: _Round) -> None:
        """Terms by the limits in force, once the external budget service has said its part, if it is asked."""
        accepted, config, verdict = taken.accepted, self.config.snapshot, None
        if (stated := stated_for(config, accepted.request.org)) is not None:
            verdict = self.budget.verdict(taken, stated)
            if verdict is None:
                work.left.append(Left(taken, "budget"))
                return
            # It is of this round: whoever comes again later is told what holds then.
            taken = msgspec.structs.replace(taken, verdict=None)
        info = info_of(accepted.request, accepted.ref).encoded()
        terms = terms_of(accepted, config, self.defaults, now_ms, info, verdict)
        if isinstance(terms, Decline):
            self._decline(taken, terms, work)
        else:
            work.open.append(_Open(taken, terms))

    def _decline(self, taken: Taken, why: Decline, work: _Round) -> None:
        """No limit is asked; the ledger keeps that, or says what was decided before."""
        work.open.append(_Open(taken, decline_terms(taken.accepted.request, why)))

    def drop(self, taken: Taken) -> None:
        """The request is over already, and nothing follows from its record."""
        self.waiters.leave(taken.accepted.request)
        taken.record.finish()

    async def _ask(self, work: _Round) -> None:
        """Ask the ledger once, and again for those that only a wait would help and that may not."""
        while work.open:
            asked, work.open = work.open, []
            found = await self.ledger.admit_many([request.terms.admit for request in asked])
            for request, verdict in zip(asked, found, strict=True):
                try:
                    self._heed(request, verdict, work)
                except Exception as error:  # noqa: BLE001  # total: as above
                    self.culprits.end(request.taken, error)

    def _heed(self, request: _Open, verdict: answers.AdmitAnswer | Failure, work: _Round) -> None:
        """What follows from the ledger's answer. Raises what failed of this one request."""
        taken = request.taken
        match verdict:
            case LedgerUnavailable():
                why: Why = "closed" if isinstance(verdict, LedgerNotReady) else "ledger"
                work.left.append(Left(self._told(taken), why))
            case Failure():
                raise verdict
            case answers.Rolled(now_ms=now_ms) if taken.rolls < _ROLLS_MAX:
                self._find_terms(
                    msgspec.structs.replace(taken, rolls=taken.rolls + 1), now_ms, work
                )
            case answers.Rolled():
                self._decline(taken, Decline(why="rolled"), work)
            case answers.Limited(id=limit) if limit in request.terms.admit.waits_for:
                work.left.append(Left(taken, "limit"))
            case answers.Superseded():
                # Whoever took it over may end before the later copy is in the log.
                work.left.append(Left(taken, "deferred", self.clock.now_ms() + ASK_AGAIN_MS))
            case answers.Duplicate(answer=None):
                self.drop(taken)
            case answers.Duplicate(answer=answers.Admitted() as earlier, terms=terms):
                event = decoded_terms(terms).event(taken.accepted, earlier)
                work.decided.append(taken.becomes(Dispatch(event)))
            case answers.Duplicate(answer=earlier):
                assert earlier is not None, "what is over is dropped before"
                work.decided.append(taken.becomes(self._verdict(request, earlier)))
            case _:
                self._decide(request, verdict, work)

    def _decide(self, request: _Open, verdict: Decidable, work: _Round) -> None:
        if may_wait(verdict) and is_flex(request.taken.accepted.request):
            work.left.append(Left(request.taken, "limit"))
            return
        decision = self._verdict(request, verdict)
        if not (
            request.terms.admit.defer and may_wait(verdict) and isinstance(decision, Rejection)
        ):
            work.decided.append(request.taken.becomes(decision))
        elif isinstance(wait := self._wait(request.taken, decision), Wait):
            work.decided.append(request.taken.becomes(wait))
        elif wait is not None:
            work.left.append(wait)
        else:
            work.open.append(request.without_waiting())

    def _told(self, taken: Taken) -> Taken:
        """Past its deadline a client that waits hears 503, once; its outcome waits for the ledger."""
        request = taken.accepted.request
        if taken.is_told or request.background or self.clock.now_ms() < request.deadline_ms:
            return taken
        unanswered = end(taken.accepted, "expired", ErrorCode.SERVICE_UNAVAILABLE)
        self.execution.replies.offer(request, unanswered.terminal)
        return msgspec.structs.replace(taken, is_told=True)

    def _verdict(self, request: _Open, answer: Decidable) -> Dispatch | Rejection:
        decision = decide(request.taken.accepted, request.terms, answer)
        denial = None if answer.__class__ is answers.Admitted else denial_in(decision)
        verdict = answer.__class__.__name__.lower()
        labels = decision_labels(verdict, denial)
        self.metrics.count("tallygate_limit_decisions_total", *labels)
        return decision

    def _wait(self, taken: Taken, refusal: Rejection) -> Wait | Left | None:
        """A wait instead of the refusal, if there is time and room for it: first in a tier, from then on
        in memory, while the record in the tier keeps its offset."""
        now_ms, accepted = self.clock.now_ms(), taken.accepted
        if accepted.deferral is None:
            wait = wait_of(accepted, refusal, now_ms)
            if wait is None or not self.has_room():
                return None
            return wait if self.waiters.enter(wait, now_ms) else None
        due_ms = again_ms(accepted, refusal, now_ms)
        if due_ms is None:
            return None
        self.waiters.note(accepted.request, due_ms)
        return Left(taken, "deferred", due_ms)
