"""The state of the ledger model, and what several of its functions do to it. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from schemas.ledger import answers, documents
from schemas.ledger.documents import Balance
from schemas.ledger.model.attempts import Attempt
from schemas.ledger.model.books import Books
from schemas.ledger.model.claims import Claims
from schemas.ledger.model.jobs import Jobs
from schemas.ledger.model.life import Life
from schemas.ledger.model.limits import NOTHING_SPENT, Limits, Refusal, Scope
from schemas.ledger.states import State
from schemas.times import FULL

EPOCH_FENCES = 2**32
LEASE_MS = FULL.ledger.attempt_lease_ms
GRACE_MS = 2 * LEASE_MS


class LedgerState:
    """All that a shard of the ledger knows; nothing is ever forgotten."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch
        self.life = Life(epoch)
        self.building = ""
        """The rebuild that is under way."""
        self.ready_ms = 0
        """When the last one ended."""
        self.seen_ms: int | None = None
        self.grace_until_ms = 0
        self.limits = Limits()
        self.attempts: dict[Scope, Attempt] = {}
        self.expiring: dict[Scope, int] = {}
        self.inflight: dict[Scope, int] = {}
        self.books = Books()
        self.claims = Claims()
        self.jobs = Jobs()

    def _incarnation_ms(self, scope: Scope) -> int:
        known = self.attempts.get(scope)
        return known.incarnation_ms if known else 0

    def _keep_refusal(self, scope: Scope, refusal: Refusal, deadline_ms: int) -> None:
        self._write(scope, "REFUSED", answer=refusal, deadline_ms=deadline_ms)

    def _write(self, scope: Scope, state: State, **fields: Any) -> Attempt:
        """The attempt with these fields; what else is known of it stays: a correction may have come first."""
        known = self.attempts.get(scope, Attempt(""))
        attempt = self.attempts[scope] = replace(known, state=state, **fields)
        return attempt

    def _next_fence(self, attempt: Attempt) -> int:
        return self.epoch * EPOCH_FENCES + attempt.fence % EPOCH_FENCES + 1

    def _withdraw(self, scope: Scope, state: State, now_us: int) -> None:
        attempt = self.attempts[scope]
        self.limits.settle(scope[0], attempt.holds, NOTHING_SPENT)
        unused = [documents.RateUse(key=rate.key, units=0) for rate in attempt.rates]
        self.limits.refund(scope[0], attempt.rates, unused, now_us)
        self.limits.leave(scope, attempt.leases)
        self._drop_spare(scope[0], attempt)
        attempt.state = state

    def _grace_until(self, now_ms: int) -> int:
        """Until when nobody's lease is over, because nobody looked for longer than a lease."""
        seen_ms = now_ms if self.seen_ms is None else self.seen_ms
        if now_ms - seen_ms > LEASE_MS or self.grace_until_ms > now_ms + GRACE_MS:
            self.grace_until_ms = now_ms + GRACE_MS
        self.seen_ms = now_ms
        return self.grace_until_ms

    def _presume_spent(self, scope: Scope, due_ms: int) -> None:
        attempt = self.attempts[scope]
        self.limits.settle(scope[0], attempt.holds, {})
        self.limits.leave(scope, attempt.leases)
        self._drop_spare(scope[0], attempt)
        attempt.state, attempt.fence = "UNKNOWN", self._next_fence(attempt)
        self.inflight.pop(scope, None)
        self.expiring[scope] = due_ms

    def _restored_until(self, now_ms: int) -> int:
        """Until when an owner may attach; no later than two leases from now."""
        self.ready_ms = min(self.ready_ms, now_ms)
        return self.ready_ms + GRACE_MS

    def _end_grace(self, org: str, attempt: Attempt, now_ms: int) -> None:
        """Nobody else can come for what its owner has attached: the spare returns."""
        if now_ms >= self._restored_until(now_ms):
            self._drop_spare(org, attempt)

    def _drop_spare(self, org: str, attempt: Attempt) -> None:
        for spare in attempt.spare or ():
            self.limits.balances[org, spare.key]["spare"] -= spare.amount
        attempt.spare = None if attempt.spare is None else ()

    def _open_second(
        self, scope: Scope, balances: Iterable[Balance], given_up: answers.GivenUp
    ) -> None:
        attempt = self.attempts[scope]
        attempt.holds = self.limits.hold(scope[0], balances)
        attempt.first, attempt.attempt = given_up, 2

    def _is_known(self, scope: Scope) -> bool:
        return scope in self.attempts and self.attempts[scope].state != ""

    def _has_owner(self, scope: Scope) -> bool:
        """Whether it is known who owns the request, or that nobody does."""
        return self._is_known(scope) and self.attempts[scope].state != "RESTORED"

    def _stale(self, attempt: Attempt) -> answers.Stale:
        is_open = attempt.state in ("RUNNING", "UNKNOWN")
        has_lost_first = is_open and attempt.first and attempt.first.verdict == "UNKNOWN"
        lost = [1] if has_lost_first else []
        # Of one that is booked the log says what was written off.
        if attempt.state == "UNKNOWN" and not attempt.place:
            lost.append(attempt.attempt)
        return answers.Stale(written_off=tuple(lost))

    def _owned(self, org: str, req: str, fence: int) -> Attempt | None:
        attempt = self.attempts.get((org, req))
        is_owned = attempt and attempt.state == "RUNNING" and attempt.fence == fence
        return attempt if is_owned else None

    def _hold_again(self, scope: Scope, again: documents.Readmission) -> Attempt:
        """The attempt of a request that was admitted before, with its hold and leases, which nobody asks."""
        return self._write(
            scope,
            "RESTORED",
            deadline_ms=again.deadline_ms,
            accepted_ms=again.accepted_ms,
            info=again.info,
            holds=self.limits.hold(scope[0], again.balances),
            leases=self.limits.enter(scope, again.leases, again.deadline_ms),
        )
