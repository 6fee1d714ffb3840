"""Restored attempts in the ledger model: held twice over until somebody says how far they came. Pure.

A rebuild knows that a request was admitted and not ended. Its owner may be calling a backend for the first
time or the second, may be gone, or nobody may have begun: so its hold is taken twice, and the second one,
the spare, returns when nobody can need it any more.
"""

from __future__ import annotations

from collections.abc import Mapping

from schemas.ledger import answers, documents
from schemas.ledger.documents import Unit
from schemas.ledger.model.attempts import Attempt
from schemas.ledger.model.limits import uncounted
from schemas.ledger.model.state import EPOCH_FENCES, LedgerState


class Restoring(LedgerState):
    """The functions for what an earlier life of the ledger admitted."""

    def restore(self, doc: documents.Restore) -> answers.RestoreAnswer:
        """See tg1_restore."""
        if doc.building != self.building:
            return answers.Stale()
        for each in doc.attempts:
            if not self._is_known((each.org, each.req)):
                self._restore(each)
        return answers.Ok()

    def _restore(self, each: documents.RestoredRequest) -> None:
        scope = (each.org, each.req)
        holds = self.limits.hold(each.org, each.balances)
        self._write(
            scope,
            "RESTORED",
            deadline_ms=each.deadline_ms,
            accepted_ms=each.accepted_ms,
            info=each.info,
            terms=each.terms,
            incarnation_ms=max(each.incarnation_ms, self._incarnation_ms(scope)),
            holds=holds,
            leases=self.limits.enter(scope, each.leases, each.deadline_ms),
            rates=each.rates,
            spare=self.limits.hold_spare(each.org, holds),
        )
        self.expiring[scope] = each.deadline_ms

    def attach(self, doc: documents.Attach, now_us: int) -> answers.AttachAnswer:
        """See tg1_attach."""
        scope, now_ms = (doc.org, doc.req), now_us // 1000
        attempt = self.attempts.get(scope)
        if attempt is None or not attempt.state:
            if now_ms >= doc.readmit.deadline_ms:
                return answers.Gone()
            attempt = self._hold_again((doc.org, doc.req), doc.readmit)
        elif not self._is_attachable(attempt, doc.fence):
            return self._stale(attempt)
        if doc.attempt > attempt.attempt:
            self._follow_first(doc, attempt)
        attempt.streamed = doc.streamed or (attempt.fence == doc.fence and attempt.streamed)
        attempt.state, attempt.fence, attempt.owner = "RUNNING", doc.fence, doc.owner
        attempt.lease_until_ms = self.inflight[scope] = now_ms + doc.lease_ms
        self.expiring.pop(scope, None)
        return answers.Cancelled() if attempt.cancel else answers.Ok()

    def _is_attachable(self, attempt: Attempt, fence: int) -> bool:
        """Whether nobody has the request, or the caller, or one whose fence was older in an earlier life."""
        if attempt.state != "RUNNING":
            return attempt.state == "RESTORED"
        is_overtaken = attempt.fence < min(fence, self.epoch * EPOCH_FENCES)
        return attempt.fence == fence or is_overtaken

    def _follow_first(self, doc: documents.Attach, attempt: Attempt) -> None:
        """What the first attempt cost is settled; the second's hold takes the place of the spare."""
        first = doc.first or documents.FirstAttempt(verdict="UNKNOWN", fence=doc.fence)
        actual: Mapping[Unit, int | None] = first.actual
        given_up = answers.GivenUp(
            attempt=1,
            verdict=first.verdict,
            fence=first.fence,
            owner=doc.owner,
            booked=self.limits.settle(doc.org, attempt.holds, actual),
        )
        second = doc.readmit.balances
        if first.verdict == "UNKNOWN":
            second = uncounted(second) or ()
        self._open_second((doc.org, doc.req), second, given_up)
        self._drop_spare(doc.org, attempt)
