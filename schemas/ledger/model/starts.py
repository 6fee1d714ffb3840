"""Claims of requests to run in the ledger model: who may begin, who waits, who succeeds whom. Pure."""

from __future__ import annotations

from schemas.ledger import answers, documents
from schemas.ledger.model.attempts import Attempt
from schemas.ledger.model.limits import spending, uncounted
from schemas.ledger.model.state import LEASE_MS, LedgerState


class Starting(LedgerState):
    """The functions by which somebody becomes the owner of a request."""

    def start(self, doc: documents.Start, now_us: int) -> answers.StartAnswer:
        """See tg1_start."""
        scope, now_ms = (doc.org, doc.req), now_us // 1000
        attempt = self.attempts.get(scope)
        if attempt is None or not attempt.state:
            return self._readmit(doc, now_ms)
        match attempt.state:
            case "RESTORED":
                return self._claim_restored(doc, now_us)
            case "RESERVED" if now_ms < attempt.deadline_ms:
                return self._run(doc, now_ms)
            case "RUNNING" if left_ms := self._lease_left_ms(attempt, now_ms):
                return answers.Busy(
                    ms=left_ms,
                    owner=attempt.owner,
                    fence=attempt.fence,
                    attempt=attempt.attempt,
                )
            case "RUNNING":
                return self._succeed(doc, now_ms)
            case "FINISHED" | "BOOKED":
                return answers.Finished(outcome=attempt.outcome, booked=attempt.place)
            case "UNKNOWN":
                return answers.Unknown()
            case "CANCELLED":
                return answers.Cancelled()
            case "REFUSED" if attempt.answer and not isinstance(attempt.answer, answers.Admitted):
                return attempt.answer
        return answers.Expired()

    def _lease_left_ms(self, attempt: Attempt, now_ms: int) -> int:
        """How long nobody may succeed the owner; 0 when somebody may."""
        if now_ms < attempt.lease_until_ms:
            return attempt.lease_until_ms - now_ms
        return max(0, min(self._grace_until(now_ms) - now_ms, LEASE_MS // 2))

    def _run(
        self, doc: documents.Start, now_ms: int, unknown: answers.GivenUp | None = None
    ) -> answers.Fence:
        scope = (doc.org, doc.req)
        attempt = self.attempts[scope]
        attempt.state, attempt.fence = "RUNNING", self._next_fence(attempt)
        attempt.owner, attempt.streamed = doc.owner, False
        attempt.lease_until_ms = self.inflight[scope] = now_ms + doc.lease_ms
        self.expiring.pop(scope, None)
        return answers.Fence(fence=attempt.fence, attempt=attempt.attempt, unknown=unknown)

    def _readmit(self, doc: documents.Start, now_ms: int) -> answers.StartAnswer:
        again = doc.readmit
        if again is None:
            return answers.Gone()
        scope = (doc.org, doc.req)
        is_over = now_ms >= again.deadline_ms
        refusal = self.limits.balance_refusal(doc.org, again.balances, {})
        if is_over or refusal:
            kept = refusal if refusal and not is_over else answers.Expired()
            self._keep_refusal(scope, kept, again.deadline_ms)
            return kept
        self._hold_again(scope, again)
        return self._run(doc, now_ms)

    def _claim_restored(self, doc: documents.Start, now_us: int) -> answers.StartAnswer:
        """What a claim finds of a request of which nobody has said yet how far it came."""
        scope, now_ms = (doc.org, doc.req), now_us // 1000
        attempt = self.attempts[scope]
        is_over = now_ms >= attempt.deadline_ms
        if doc.fresh and is_over:
            self._withdraw(scope, "VOIDED", now_us)
            return answers.Expired()
        if doc.fresh and attempt.cancel:
            self._withdraw(scope, "CANCELLED", now_us)
            self.expiring.pop(scope, None)
            attempt.answer = answers.Cancelled()
            return answers.Cancelled()
        if is_over:
            return answers.Expired()
        if doc.fresh:
            return self._run(doc, now_ms)
        left_ms = self._restored_until(now_ms) - now_ms
        if left_ms > 0:
            return answers.Busy(ms=left_ms, owner="", fence=0, attempt=1)
        return self._succeed(doc, now_ms) if doc.asked else answers.Restored()

    def _succeed(self, doc: documents.Start, now_ms: int) -> answers.Fence | answers.Unknown:
        scope = (doc.org, doc.req)
        attempt, second = self.attempts[scope], uncounted(doc.second_attempt)
        is_open = attempt.attempt == 1 and not attempt.streamed and not attempt.cancel
        moved = spending(attempt.holds, {})
        if (
            second is None
            or not is_open
            or now_ms >= attempt.deadline_ms
            or self.limits.balance_refusal(doc.org, second, moved)
        ):
            self._presume_spent(scope, now_ms)
            return answers.Unknown()
        given_up = answers.GivenUp(
            attempt=1,
            verdict="UNKNOWN",
            fence=attempt.fence,
            owner=attempt.owner,
            booked=self.limits.settle(doc.org, attempt.holds, {}),
        )
        self._open_second(scope, second, given_up)
        return self._run(doc, now_ms, given_up)
