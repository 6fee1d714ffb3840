"""Admission in the ledger model: the first decision on a request, its copies, keys and tombstones. Pure."""

from __future__ import annotations

from schemas.ledger import answers, documents
from schemas.ledger.model.attempts import Attempt
from schemas.ledger.model.claims import Holder
from schemas.ledger.model.limits import Scope, is_waited_for, unasked
from schemas.ledger.model.state import LedgerState
from schemas.ledger.states import OPEN


class Admission(LedgerState):
    """The functions that decide on a request before it runs."""

    def admit(self, doc: documents.Admit, now_us: int) -> answers.AdmitAnswer:
        """See tg1_admit."""
        scope, now_ms = (doc.org, doc.req), now_us // 1000
        if decided := self._decided(doc, now_us):
            return decided
        if doc.job is not None:
            self.jobs.list_again(doc.org, doc.req, doc.accepted_ms, doc.job)
        own_end = unasked(doc, now_ms) or self.claims.refusal(doc, now_ms)
        refusal = own_end or self.limits.refusal(doc, now_us)
        if isinstance(refusal, answers.Rolled):
            return refusal
        if refusal is not None:
            if not is_waited_for(doc, refusal):
                self._keep_refusal(scope, refusal, doc.deadline_ms)
            return refusal
        admitted = answers.Admitted(
            remaining=tuple(self.limits.charge(doc.org, rate, now_us) for rate in doc.rates)
        )
        self._write(
            scope,
            "RESERVED",
            incarnation_ms=max(doc.incarnation_ms, self._incarnation_ms(scope)),
            terms=doc.terms,
            answer=admitted,
            deadline_ms=doc.deadline_ms,
            accepted_ms=doc.accepted_ms,
            info=doc.info,
            holds=self.limits.hold(doc.org, doc.balances),
            leases=self.limits.enter(scope, doc.leases, doc.deadline_ms),
            rates=doc.rates,
        )
        self.expiring[scope] = doc.deadline_ms
        return admitted

    def _decided(self, doc: documents.Admit, now_us: int) -> answers.AdmitAnswer | None:
        """What an earlier call decided for the request, or for its copy."""
        known = self.attempts.get((doc.org, doc.req), Attempt(""))
        is_late = doc.decline is not None and doc.decline.why == "late"
        if is_late and doc.incarnation_ms < known.incarnation_ms:
            return answers.Superseded()
        if known.state == "CANCELLED":
            if known.is_unheard and doc.incarnation_ms > known.incarnation_ms:
                return None
            known.answer = known.answer or answers.Cancelled()
            return answers.Cancelled()
        if not known.state:
            return None
        if known.state == "RESERVED" and doc.decline is not None and doc.decline.why == "defect":
            return self._take_back((doc.org, doc.req), doc.decline, now_us)
        stands = known.state in ("RESERVED", "RUNNING", "REFUSED")
        answer = known.answer if stands else None
        return answers.Duplicate(answer=answer, state=known.state, terms=known.terms)

    def _take_back(self, scope: Scope, decline: documents.Decline, now_us: int) -> answers.Declined:
        self._withdraw(scope, "REFUSED", now_us)
        self.expiring.pop(scope, None)
        declined = answers.Declined(why=decline.why, retry_after_ms=decline.retry_after_ms)
        self.attempts[scope].answer = declined
        return declined

    def cancel(self, doc: documents.Cancel, now_us: int) -> answers.CancelAnswer:
        """See tg1_cancel."""
        scope = (doc.org, doc.req)
        given_up_ms = doc.incarnation_ms
        if given_up_ms is not None and given_up_ms < self._incarnation_ms(scope):
            return answers.Stale()
        attempt = self.attempts.setdefault(scope, Attempt(""))
        attempt.state = attempt.state or "CANCELLED"
        if attempt.is_unheard:
            attempt.incarnation_ms = given_up_ms or attempt.incarnation_ms
            attempt.answer = answers.Cancelled() if given_up_ms is None else None
        if attempt.state in ("RUNNING", "RESTORED"):
            attempt.cancel = True
            return answers.Running(owner=attempt.owner)
        if attempt.state == "RESERVED":
            self._withdraw(scope, "CANCELLED", now_us)
            self.expiring.pop(scope, None)
        return answers.Ok() if attempt.state == "CANCELLED" else answers.Terminal()

    def claim(self, doc: documents.Claim, now_us: int) -> answers.ClaimAnswer:
        """See tg1_claim."""
        scope = (doc.org, self.claims.holder(doc) or "")
        holder = self.attempts.get(scope, Attempt(""))
        seen = Holder(holder.state, holder.ran, self.books.forgot_ms)
        is_lost = self.claims.is_lost(doc, seen, now_us // 1000)
        answer = self.claims.claim(doc, seen, now_us // 1000)
        joined = (*OPEN, *([""] if doc.joins else []))
        is_joined = isinstance(answer, answers.Held) and holder.state in joined
        if is_lost or is_joined:
            known = self.attempts.setdefault(scope, holder)
            known.incarnation_ms = max(known.incarnation_ms, doc.produce_by_ms)
        return answer
