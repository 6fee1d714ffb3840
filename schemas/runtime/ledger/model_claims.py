"""Idempotency claims in plain Python: which request a key belongs to."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TypeAlias

from schemas.runtime.ledger import answers, documents

_TERMINAL_KEPT_MS = 15 * 60 * 1000
_NEVER_RAN = ("REFUSED", "CANCELLED", "VOIDED", "BOOKED")

KeyScope: TypeAlias = tuple[str, str]
"""Organization and hash of the key."""


@dataclass(frozen=True)
class Claim:
    """One claim hash."""

    req: str
    fingerprint: str
    produce_by_ms: int
    deadline_ms: int


@dataclass
class Claims:
    """All claims; what became of a holder is an argument."""

    held: dict[KeyScope, Claim] = field(default_factory=dict)

    def holder(self, doc: documents.Claim) -> str | None:
        """The request that holds the key."""
        claim = self.held.get((doc.org, doc.key_hash))
        return claim.req if claim else None

    def claim(self, doc: documents.Claim, state: str, now_ms: int) -> answers.ClaimAnswer:
        """See tg1_claim; ``state`` is that of the holder's attempt."""
        scope = (doc.org, doc.key_hash)
        held = self.held.get(scope)
        if held is None or _is_free(held, state, now_ms):
            self.held[scope] = Claim(doc.req, doc.fingerprint, doc.produce_by_ms, doc.deadline_ms)
            return answers.Claimed(req=doc.req, deadline_ms=doc.deadline_ms)
        if held.fingerprint != doc.fingerprint:
            return answers.Mismatch()
        if not state and held.produce_by_ms <= now_ms < held.deadline_ms:
            self.held[scope] = replace(held, produce_by_ms=doc.produce_by_ms)
            return answers.Claimed(req=held.req, deadline_ms=held.deadline_ms)
        return answers.Held(req=held.req, state=state, deadline_ms=held.deadline_ms)

    def release(self, doc: documents.Release) -> answers.ReleaseAnswer:
        """See tg1_release."""
        held = self.held.get((doc.org, doc.key_hash))
        if held is None or held.req != doc.req:
            return answers.Stale()
        del self.held[doc.org, doc.key_hash]
        return answers.Ok()


def _is_free(held: Claim, state: str, now_ms: int) -> bool:
    is_over = held.deadline_ms <= now_ms < held.deadline_ms + _TERMINAL_KEPT_MS
    return state in _NEVER_RAN or (not state and is_over)
