"""What is found by an idempotency key or in lists of jobs: of requests that ended and of those under way. Pure.

Of a key the latest request counts: ids carry their time, and a key changes hands only when the request
before it never ran. Whether it did, its mark says.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from accounting.rebuild.fold import Mark, mark_field
from schemas.events import KeptRequest, RequestAccepted
from schemas.ledger.rebuild_calls import RestoredClaim, RestoredJob
from schemas.times import Times

__all__ = ["Kept"]


@dataclass(slots=True)
class Kept:
    """Keys and jobs of a shard."""

    times: Times
    claims: dict[tuple[str, str], RestoredClaim] = field(default_factory=dict)
    """By organization and hash of the key."""
    jobs: dict[tuple[str, str], RestoredJob] = field(default_factory=dict)
    """By organization and request."""
    marks: dict[tuple[str, str], Mark] = field(default_factory=dict)

    def end(self, kept: KeptRequest) -> None:
        """A request that ended."""
        if kept.job is not None:
            self.jobs[kept.org, kept.request_id] = RestoredJob(
                org=kept.org,
                req=kept.request_id,
                info=kept.job,
                created_ms=kept.created_at_ms,
                until_ms=kept.expires_at_ms,
                ends=kept.ends,
            )
        if kept.idempotency_hash is not None:
            self._hold(
                RestoredClaim(
                    org=kept.org,
                    key_hash=kept.idempotency_hash,
                    req=kept.request_id,
                    fingerprint=kept.fingerprint or "",
                    produce_by_ms=kept.produce_by_ms,
                    deadline_ms=kept.deadline_ms,
                    until_ms=kept.expires_at_ms,
                )
            )
        due_ms = max(kept.deadline_ms, kept.ended_at_ms) + self.times.ledger.terminal_kept_ms
        mark = Mark(
            kept.org, kept.request_id, mark_field(None), kept.outcome.offset, due_ms, kept.ran
        )
        self.marks.setdefault((kept.org, kept.request_id), mark)

    def accept(self, accepted: RequestAccepted) -> None:
        """A request that was accepted and has not ended, as far as is known."""
        org, req, at_ms = accepted.org, accepted.request_id, accepted.accepted_at_ms
        if accepted.idempotency_hash is not None and accepted.fingerprint is not None:
            self._hold(
                RestoredClaim(
                    org=org,
                    key_hash=accepted.idempotency_hash,
                    req=req,
                    fingerprint=accepted.fingerprint,
                    produce_by_ms=accepted.produce_by_ms,
                    deadline_ms=accepted.deadline_ms,
                    until_ms=at_ms + self.times.ledger.claim_kept_ms,
                )
            )
        if accepted.job is not None and (org, req) not in self.jobs:
            self.jobs[org, req] = RestoredJob(
                org=org,
                req=req,
                info=accepted.job,
                created_ms=at_ms,
                until_ms=at_ms + self.times.ledger.job_kept_ms,
            )

    def carry(self, claim: RestoredClaim | None, job: RestoredJob | None) -> None:
        """What a version of another layout knew of a request that has not ended."""
        if claim is not None:
            self._hold(claim)
        if job is not None:
            self.jobs.setdefault((job.org, job.req), job)

    def _hold(self, claim: RestoredClaim) -> None:
        held = self.claims.get((claim.org, claim.key_hash))
        newest = (claim.req, claim.produce_by_ms)
        if held is None or newest >= (held.req, held.produce_by_ms):
            self.claims[claim.org, claim.key_hash] = claim
