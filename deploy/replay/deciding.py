"""Decides requests of the log again, with the limiter's own terms and the ledger's model, and notes whose verdict changes.

Everything happens at the times of the log: a request is decided when it was appended, and what it held returns when its outcome
was. What a request used that was refused then and would be admitted now, nobody knows: it is taken to use all that it holds.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec

from deploy.replay.checkpoint import Checkpoint
from deploy.replay.origin import Placed
from deploy.replay.selection import Selection
from limiter_worker.accepted import Accepted, accepted_of
from limiter_worker.decisions import Decidable, Dispatch, decide
from limiter_worker.external_budget.verdicts import stated_for
from limiter_worker.limits import UNAVAILABLE, AdmissionRequest, decline_terms, terms_of
from limiter_worker.readiness import standing_of
from schemas.codec import UNDECODABLE, decode
from schemas.config_state import Snapshot
from schemas.errors import ErrorCode
from schemas.events import AttemptAdjusted, RecordRef, RequestAccepted, RequestFinished
from schemas.ledger import answers
from schemas.ledger.documents import Admit, Booking, Charge, Decline, RateUse, Unit
from schemas.ledger.model.limits import NOTHING_SPENT, Limits, is_waited_for, unasked
from schemas.stated_limits import Defaults
from schemas.topics import OUTCOMES

__all__ = ["ADMITTED", "Decider", "verdict_in"]

ADMITTED: Final = "admitted"
_TOKENS: Final = "/tokens"
"""Ends the name of a bucket of tokens."""
_OF_THE_MOMENT: Final = (ErrorCode.OVERLOADED, ErrorCode.SERVICE_UNAVAILABLE)
"""What the gateway said of its own state; no limit is in it."""
_OPEN_MAX: Final = 20_000
"""Requests that wait for their outcome; beyond that those are looked for that will have none."""
_ENDED_BY_MS: Final = 15 * 60_000
"""So long after its deadline a request has its outcome, or has none."""
_ADD_CHANGED: Final = "INSERT OR IGNORE INTO changed VALUES (?, ?, ?, ?, ?, ?, ?, ?)"

SpentBefore = Callable[[str, Sequence[str]], Awaitable[Mapping[str, int]]]
"""What was settled on balances of an organization before the range began."""


@dataclass(frozen=True, slots=True)
class _Held:
    """What a request holds until its outcome is read."""

    holds: tuple[Booking, ...]
    leases: tuple[str, ...]
    rates: tuple[Charge, ...]
    org: str
    deadline_ms: int


@dataclass(frozen=True, slots=True)
class _Verdict:
    """What was decided anew."""

    request: RequestAccepted
    says: str
    why: str
    at_ms: int


@dataclass(slots=True)
class Decider:
    """The limits of one partition, as far as the log was read."""

    config: Snapshot
    defaults: Defaults
    selection: Selection
    checkpoint: Checkpoint
    begins: Mapping[str, int]
    """By topic, the first offset whose verdict is told; those before it only fill buckets and places."""
    spent_before: SpentBefore
    limits: Limits = field(default_factory=Limits)
    _known: set[tuple[str, str]] = field(default_factory=set)
    """Balances of which it is known what was spent before."""
    _held: dict[str, _Held] = field(default_factory=dict)
    _verdicts: dict[str, _Verdict] = field(default_factory=dict)
    _look_at: int = _OPEN_MAX

    async def take(self, record: Placed) -> None:
        """Take what happened next: a request that was accepted, or an outcome."""
        if record.topic == OUTCOMES:
            self._finish(record)
            return
        try:
            at = RecordRef(topic=record.topic, partition=record.partition, offset=record.offset)
            accepted = accepted_of(record.value, dict(record.headers), at, record.timestamp)
        except UNDECODABLE as error:
            if record.offset >= self.begins.get(record.topic, 0):
                self.checkpoint.name_undecodable(record.partition, record.offset, str(error))
            return
        await self._request(accepted)

    def end(self) -> None:
        """Count requests that have no outcome in the log."""
        self.checkpoint.count("not judged: no outcome", len(self._verdicts))

    def _forget(self, now_ms: int) -> None:
        """Give back what requests hold that have no outcome and will have none."""
        over_ms = now_ms - _ENDED_BY_MS
        for request_id in [r for r, held in self._held.items() if held.deadline_ms < over_ms]:
            held = self._held.pop(request_id)
            self.limits.settle(held.org, held.holds, NOTHING_SPENT)
            self.limits.leave((held.org, request_id), held.leases)
        for request_id in [r for r, v in self._verdicts.items() if v.request.deadline_ms < over_ms]:
            del self._verdicts[request_id]
            self.checkpoint.count("not judged: no outcome")
        self._look_at = _OPEN_MAX + len(self._held) + len(self._verdicts)

    async def _request(self, accepted: Accepted) -> None:
        request, now_ms = accepted.request, accepted.appended_at_ms
        if len(self._held) + len(self._verdicts) >= self._look_at:
            self._forget(now_ms)
        is_told = accepted.ref.offset >= self.begins.get(accepted.ref.topic, 0)
        is_told = is_told and self.selection.wants(request)
        if request.request_id in self._held or request.request_id in self._verdicts:
            return  # A copy: the first decision stands.
        if is_told:
            self.checkpoint.count("selected")
        if stated_for(self.config, request.org) is not None:
            self._leave(is_told, "an external budget service was asked")
            return
        terms = self._terms(accepted, now_ms)
        if terms.admit.decline is None:
            await self._learn(terms.admit)
        answer = unasked(terms.admit, now_ms) or self.limits.refusal(terms.admit, now_ms * 1_000)
        if answer is None:
            self._admit(request, terms.admit, now_ms * 1_000)
            self._note(accepted, is_told, ADMITTED, "")
        elif isinstance(answer, answers.Rolled) or is_waited_for(terms.admit, answer):
            self._leave(is_told, "it would wait for a limit")
        else:
            self._refuse(accepted, terms, answer, is_told=is_told)

    def _terms(self, accepted: Accepted, now_ms: int) -> AdmissionRequest:
        request = accepted.request
        standing = standing_of(request, self.config)
        if standing in ("closed", "not_yet"):
            return decline_terms(request, UNAVAILABLE)
        if standing == "revoked":
            return decline_terms(request, Decline(why="revoked"))
        terms = terms_of(accepted, self.config, self.defaults, now_ms, "")
        return decline_terms(request, terms) if isinstance(terms, Decline) else terms

    def _refuse(
        self, accepted: Accepted, terms: AdmissionRequest, answer: Decidable, *, is_told: bool
    ) -> None:
        decision = decide(accepted, terms, answer)
        assert not isinstance(decision, Dispatch), "a refusal admits nobody"
        outcome = decision.outcome
        denial = outcome.denial
        why = "" if denial is None else f"{denial.current_usage} of {denial.limit}"
        self._note(accepted, is_told, verdict_in(outcome) or str(outcome.error_code), why)

    async def _learn(self, admit: Admit) -> None:
        """What was spent before on balances that bear a limit and were not met yet."""
        wanted = [
            each.key
            for each in admit.balances
            if each.limit is not None and (admit.org, each.key) not in self._known
        ]
        if wanted:
            for key, amount in (await self.spent_before(admit.org, wanted)).items():
                self.limits.balances[admit.org, key]["settled"] += amount
            self._known.update((admit.org, key) for key in wanted)

    def _admit(self, request: RequestAccepted, admit: Admit, now_us: int) -> None:
        org, scope = admit.org, (admit.org, admit.req)
        for rate in admit.rates:
            self.limits.charge(org, rate, now_us)
        holds = self.limits.hold(org, admit.balances)
        leases = self.limits.enter(scope, admit.leases, admit.deadline_ms)
        self._held[request.request_id] = _Held(holds, leases, admit.rates, org, admit.deadline_ms)

    def _note(self, accepted: Accepted, is_told: bool, says: str, why: str) -> None:  # noqa: FBT001  # as the others
        if is_told:
            request = msgspec.structs.replace(accepted.request, payload=b"")
            verdict = _Verdict(request, says, why, accepted.appended_at_ms)
            self._verdicts[request.request_id] = verdict

    def _leave(self, is_told: bool, why: str) -> None:  # noqa: FBT001  # as above
        if is_told:
            self.checkpoint.count(f"not judged: {why}")

    def _finish(self, record: Placed) -> None:
        try:
            event = decode(record.value)
        except UNDECODABLE:
            self.checkpoint.count("not judged: their outcome cannot be read")
            return
        if isinstance(event, AttemptAdjusted):
            for booking in event.bookings:
                self.limits.balances[event.org, booking.key]["settled"] += booking.amount
        if not isinstance(event, RequestFinished):
            return
        self._return(event, record.timestamp * 1_000)
        verdict = self._verdicts.pop(event.request_id, None)
        if verdict is not None:
            self._compare(event, verdict)

    def _return(self, event: RequestFinished, now_us: int) -> None:
        """Settle what the request used; a second outcome finds nothing held."""
        held = self._held.pop(event.request_id, None)
        if held is None:
            return
        is_unknown = event.denial is not None and not event.attempts
        actual: dict[Unit, int | None] = {} if is_unknown else dict(NOTHING_SPENT)
        actual |= {each.unit: each.amount for each in event.bookings}  # type: ignore[misc]  # a unit, by the schema
        self.limits.settle(event.org, held.holds, actual)
        self.limits.leave((event.org, event.request_id), held.leases)
        if not is_unknown:
            tokens = sum(each.input_tokens + each.output_tokens for each in event.attempts)
            uses = [RateUse(key=r.key, units=tokens) for r in held.rates if r.key.endswith(_TOKENS)]
            self.limits.refund(event.org, held.rates, uses, now_us)

    def _compare(self, event: RequestFinished, verdict: _Verdict) -> None:
        was = verdict_in(event)
        if was is None:
            self.checkpoint.count("not judged: no limit decided how it ended")
            return
        self.checkpoint.count("judged")
        if was != verdict.says:
            self.checkpoint.count("changed")
            request = verdict.request
            self.checkpoint.file.execute(
                _ADD_CHANGED,
                (request.request_id, request.org, request.key_id, request.model, was, verdict.says, verdict.at_ms, verdict.why),
            )  # fmt: skip


def verdict_in(outcome: RequestFinished) -> str | None:
    """What admission had decided of a request, from its outcome: ``admitted``, or the error's code and the limit.

    ``None`` where something else ended it: its client, its deadline, or the state of the gateway.
    """
    if outcome.attempts or outcome.fence:
        return ADMITTED
    if outcome.denial is not None and outcome.status == "refused":
        return f"{outcome.error_code} {outcome.denial.limit_id}"
    if outcome.status == "refused" and outcome.error_code not in _OF_THE_MOMENT:
        return outcome.error_code
    return None
