"""Idempotency claims in plain Python: which request a key belongs to. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from schemas.ledger import answers, documents
from schemas.ledger.states import NEVER_RAN, State
from schemas.times import FULL, HOUR_MS

CLAIM_KEPT_MS = FULL.ledger.claim_kept_ms
_TERMINAL_KEPT_MS = FULL.ledger.terminal_kept_ms

KeyScope: TypeAlias = tuple[str, str]
"""Organization and hash of the key."""


@dataclass(frozen=True)
class Claim:
    """One claim hash."""

    req: str
    fingerprint: str
    produce_by_ms: int
    deadline_ms: int
    claimed_ms: int


@dataclass(frozen=True)
class Holder:
    """What the ledger knows of the attempt of a key's holder."""

    state: State
    ran: bool
    forgot_ms: int
    """Up to which time in the log marks were forgotten."""

    def may_be_forgotten(self, held: Claim) -> bool:
        """Whether it may have run all the same: then only the log knows."""
        return held.deadline_ms + _TERMINAL_KEPT_MS <= self.forgot_ms

    def frees(self, held: Claim, now_ms: int) -> bool:
        """Whether it did not run and never will."""
        if self.state and (self.ran or self.state not in NEVER_RAN):
            return False
        if not self.state and now_ms < held.deadline_ms:
            return False
        return not self.may_be_forgotten(held)


@dataclass
class Claims:
    """All claims; what became of a holder is an argument."""

    held: dict[KeyScope, Claim] = field(default_factory=dict)
    counted: dict[str, Counter[int]] = field(default_factory=lambda: defaultdict(Counter))
    """Keys claimed in each hour, by organization."""

    def holder(self, doc: documents.Claim) -> str | None:
        """The request that holds the key."""
        claim = self.held.get((doc.org, doc.key_hash))
        return claim.req if claim else None

    def is_lost(self, doc: documents.Claim, holder: Holder, now_ms: int) -> bool:
        """Whether the holder did not reach the log and is to be produced again."""
        held = self.held.get((doc.org, doc.key_hash))
        if held is None or held.fingerprint != doc.fingerprint or doc.joins:
            return False
        if holder.state or holder.may_be_forgotten(held):
            return False
        return held.produce_by_ms <= now_ms < held.deadline_ms

    def claim(self, doc: documents.Claim, holder: Holder, now_ms: int) -> answers.ClaimAnswer:
        """See tg1_claim."""
        scope, state = (doc.org, doc.key_hash), holder.state
        held = self.held.get(scope)
        if held is None or holder.frees(held, now_ms):
            if held is not None:
                self._count_out(doc.org, held)
            elif limited := self._refusal(doc, now_ms):
                return limited
            self.counted[doc.org][now_ms // HOUR_MS] += 1
            self.held[scope] = Claim(
                doc.req, doc.fingerprint, doc.produce_by_ms, doc.deadline_ms, now_ms
            )
            return answers.Claimed(req=doc.req, deadline_ms=doc.deadline_ms)
        if held.fingerprint != doc.fingerprint:
            return answers.Mismatch()
        if self.is_lost(doc, holder, now_ms):
            self.held[scope] = replace(held, produce_by_ms=doc.produce_by_ms)
            return answers.Claimed(req=held.req, deadline_ms=held.deadline_ms)
        return answers.Held(req=held.req, state=state, deadline_ms=held.deadline_ms)

    def refusal(self, doc: documents.Admit, now_ms: int) -> answers.Declined | None:
        """What the key of a request has against its admission; one that nobody has is held again."""
        if doc.key is None:
            return None
        scope, lapses_ms = (doc.org, doc.key.key_hash), doc.accepted_ms + CLAIM_KEPT_MS
        held = self.held.get(scope)
        if held is None and now_ms < lapses_ms:
            self.counted[doc.org][now_ms // HOUR_MS] += 1
            self.held[scope] = Claim(
                doc.req, doc.key.fingerprint, doc.incarnation_ms, doc.deadline_ms, now_ms
            )
        is_taken = held is not None and held.req != doc.req and held.claimed_ms < lapses_ms
        return answers.Declined(why="taken") if is_taken else None

    def release(self, doc: documents.Release) -> answers.ReleaseAnswer:
        """See tg1_release."""
        held = self.held.get((doc.org, doc.key_hash))
        if held is None or held.req != doc.req:
            return answers.Stale()
        self._count_out(doc.org, held)
        del self.held[doc.org, doc.key_hash]
        return answers.Ok()

    def _count_out(self, org: str, held: Claim) -> None:
        if held.claimed_ms // HOUR_MS in self.counted[org]:
            self.counted[org][held.claimed_ms // HOUR_MS] -= 1

    def _refusal(self, doc: documents.Claim, now_ms: int) -> answers.Limited | None:
        """What stands against a key more; hours before the last day are dropped."""
        counted = self.counted[doc.org]
        for hour in [hour for hour in counted if hour < (now_ms - CLAIM_KEPT_MS) // HOUR_MS]:
            del counted[hour]
        usage = sum(counted.values())
        if usage < doc.limit:
            return None
        oldest = min(counted, default=now_ms // HOUR_MS)
        return answers.Limited(
            id="org:idempotency_keys",
            usage=usage,
            limit=doc.limit,
            retry_after_ms=(oldest + 1) * HOUR_MS + CLAIM_KEPT_MS - now_ms,
        )
