"""One shard of the ledger in plain Python: what the Lua functions mean, without a store. Pure.

Same documents, same answers; time is an argument, and nothing is ever forgotten. A property test runs
both side by side, so a difference is a defect of one of them.
"""

from __future__ import annotations

from collections.abc import Mapping

from schemas.ledger import answers, documents
from schemas.ledger.documents import Unit
from schemas.ledger.model.admission import Admission
from schemas.ledger.model.attempts import Attempt
from schemas.ledger.model.limits import NOTHING_SPENT, Scope, spending
from schemas.ledger.model.restored import Restoring
from schemas.ledger.model.starts import Starting
from schemas.ledger.model.state import EPOCH_FENCES, GRACE_MS
from schemas.times import FULL


class LedgerModel(Admission, Starting, Restoring):
    """All state, and one method per function."""

    def next_attempt(self, doc: documents.NextAttempt, now_us: int) -> answers.NextAttemptAnswer:
        """See tg1_next_attempt."""
        scope = (doc.org, doc.req)
        if not self._has_owner(scope):
            return answers.Gone()
        if self._failed_over(scope, doc.fence):
            return answers.Fence(fence=self.attempts[scope].fence, attempt=2)
        attempt = self._owned(doc.org, doc.req, doc.fence)
        if attempt is None:
            return answers.Stale()
        if attempt.cancel:
            return answers.Cancelled()
        if now_us // 1000 >= attempt.deadline_ms:
            return answers.Expired()
        if attempt.attempt != 1:
            return answers.Refused(why="attempts")
        if attempt.streamed:
            return answers.Refused(why="streamed")
        actual: Mapping[Unit, int | None] = doc.estimate if doc.may_have_spent else NOTHING_SPENT
        moved = spending(attempt.holds, actual)
        if refusal := self.limits.balance_refusal(doc.org, doc.second, moved):
            return refusal
        given_up = answers.GivenUp(
            attempt=1,
            verdict="FAILED",
            fence=attempt.fence,
            owner=attempt.owner,
            booked=self.limits.settle(doc.org, attempt.holds, actual),
        )
        self._open_second(scope, doc.second, given_up)
        attempt.fence = self._next_fence(attempt)
        return answers.Fence(fence=attempt.fence, attempt=2)

    def _failed_over(self, scope: Scope, fence: int) -> bool:
        attempt = self.attempts[scope]
        first = attempt.first
        if first is None or attempt.state != "RUNNING":
            return False
        return first.verdict == "FAILED" and first.fence == fence

    def renew(self, doc: documents.Renew, now_us: int) -> answers.RenewAnswer:
        """See tg1_renew."""
        scope = (doc.org, doc.req)
        if not self._has_owner(scope):
            return answers.Gone()
        attempt = self._owned(doc.org, doc.req, doc.fence)
        if attempt is None:
            return answers.Stale()
        if attempt.spare and attempt.fence < self.epoch * EPOCH_FENCES:
            self._end_grace(doc.org, attempt, now_us // 1000)
        attempt.lease_until_ms = self.inflight[scope] = now_us // 1000 + doc.lease_ms
        attempt.streamed = attempt.streamed or doc.streamed
        return answers.Cancelled() if attempt.cancel else answers.Ok()

    def finish(self, doc: documents.Finish, outcome: bytes, now_us: int) -> answers.FinishAnswer:
        """See tg1_finish."""
        scope = (doc.org, doc.req)
        if not self._has_owner(scope):
            return answers.Gone()
        known = self.attempts[scope]
        is_repeated = known.state == "FINISHED" and known.fence == doc.fence
        if known.state == "BOOKED" or is_repeated:
            return answers.Repeated(outcome=known.outcome, booked=known.place)
        attempt = self._owned(doc.org, doc.req, doc.fence)
        if attempt is None:
            return self._stale(known)
        self.limits.settle(doc.org, attempt.holds, doc.actual)
        self._drop_spare(doc.org, attempt)
        self.limits.refund(doc.org, attempt.rates, doc.actual_rates, now_us)
        self.limits.leave(scope, attempt.leases)
        self.inflight.pop(scope, None)
        attempt.forget_run()
        attempt.state, attempt.outcome, attempt.ends = "FINISHED", outcome, doc.ends or ""
        self.books.finished[scope] = now_us // 1000
        return answers.Ok()

    def look(self, doc: documents.Look) -> answers.Look:
        """See tg1_look."""
        attempt = self.attempts.get((doc.org, doc.req))
        job = self.jobs.info(doc.org, doc.req)
        if attempt is None:
            return answers.Look(state="", job=job)
        return answers.Look(
            state=attempt.state, job=job, outcome=attempt.outcome, booked=attempt.place
        )

    def list_jobs(self, doc: documents.ListJobs) -> answers.Jobs:
        """See tg1_jobs."""
        listed, more = self.jobs.page(doc)
        entries = []
        for req, info in listed:
            attempt = self.attempts.get((doc.org, req), Attempt(""))
            entries.append(
                answers.JobEntry(req=req, info=info, state=attempt.state, ends=attempt.ends or None)
            )
        return answers.Jobs(entries=tuple(entries), more=more)

    def reap(self, doc: documents.Reap, now_us: int) -> answers.ReapedAttempts:
        """See tg1_reap."""
        now_ms = now_us // 1000
        due = self._due(self.expiring, now_ms, doc.limit)
        self._shorten_leases(now_ms, doc.limit)
        is_grace = now_ms < self._grace_until(now_ms)
        left = 0 if is_grace else doc.limit - len(due)
        abandoned = self._due(self.inflight, now_ms - doc.grace_ms, left)
        entries = []
        for scope in due:
            if scope not in self.attempts:  # Its outcome was booked, and its mark forgotten since.
                del self.expiring[scope]
                continue
            if self.attempts[scope].state == "RESERVED":
                self._withdraw(scope, "VOIDED", now_us)
            if self.attempts[scope].state == "RESTORED":
                if now_ms < self._restored_until(now_ms):
                    self.expiring[scope] = self._restored_until(now_ms)
                    continue
                self._presume_spent(scope, now_ms)
            if self.attempts[scope].place:
                del self.expiring[scope]
                continue
            self.expiring[scope] = now_ms + FULL.ledger.requeue_ms
            entries.append(self._entry(scope))
        for scope in abandoned:
            self._presume_spent(scope, now_ms + FULL.ledger.requeue_ms)
            entries.append(self._entry(scope))
        return answers.ReapedAttempts(entries=tuple(entries))

    def _shorten_leases(self, now_ms: int, limit: int) -> None:
        latest_ms = now_ms + GRACE_MS
        beyond = [(ms, "|".join(scope), scope) for scope, ms in self.inflight.items()]
        for _, _, scope in [each for each in sorted(beyond) if each[0] > latest_ms][:limit]:
            self.inflight[scope] = self.attempts[scope].lease_until_ms = latest_ms

    def _due(self, queue: Mapping[Scope, int], until_ms: int, limit: int) -> list[Scope]:
        due = [(score, "|".join(scope), scope) for scope, score in queue.items()]
        return [scope for score, _, scope in sorted(due) if score <= until_ms][:limit]

    def _entry(self, scope: Scope) -> answers.ReapEntry:
        attempt = self.attempts[scope]
        return answers.ReapEntry(
            org=scope[0],
            req=scope[1],
            verdict="VOIDED" if attempt.state == "VOIDED" else "UNKNOWN",
            attempt=attempt.attempt,
            accepted_ms=attempt.accepted_ms,
            deadline_ms=attempt.deadline_ms,
            fence=attempt.fence or self._next_fence(attempt),
            info=attempt.info,
            holds=attempt.holds,
            first=attempt.first,
        )

    def reaped(self, doc: documents.Reaped) -> answers.Ok:
        """See tg1_reaped."""
        for entry in doc.entries:
            self.expiring.pop((entry.org, entry.req), None)
        return answers.Ok()

    def book(self, doc: documents.Book) -> answers.Booked:
        """See tg1_book."""
        booked = self.books.book(doc, self.attempts, self.limits, self.jobs, self._unlist)
        self.life.booked = max(self.life.booked, booked.offset)
        return booked

    def _unlist(self, scope: Scope) -> None:
        self.expiring.pop(scope, None)
        self.inflight.pop(scope, None)
