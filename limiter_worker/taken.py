"""A request on its way through the limiter: with its record, and later with its decision."""

from __future__ import annotations

import msgspec

from limiter_worker.accepted import Accepted
from limiter_worker.decision_records import Decision, follow_up
from limiter_worker.decisions import Dispatch, Rejection
from limiter_worker.deferral import Wait
from limiter_worker.external_budget.verdicts import Verdict
from schemas.headers import passed_on
from schemas.ledger.documents import Decline
from schemas.outgoing import Outgoing
from schemas.runtime.kafka.consume.records import Record


class Taken(msgspec.Struct, frozen=True):
    """A request that was read from its record."""

    record: Record
    accepted: Accepted
    decline: Decline | None = None
    """Why the gateway itself refuses it, if it does."""
    rolls: int = 0
    """How often the ledger was in another period than the one asked for."""
    is_told: bool = False
    """Whether the client has heard that its deadline passed while the ledger was away."""
    is_first: bool = False
    """Whether the log was asked, and has no outcome of the request."""
    verdict: Verdict | None = None
    """What the budget service said while it waited."""

    @property
    def may_be_parked(self) -> bool:
        """Whether it may wait as a record among background work: nothing but its bytes is known of it."""
        is_bare = self.decline is None and self.verdict is None and not self.is_first
        return self.accepted.request.background and is_bare

    def becomes(self, decision: Dispatch | Rejection | Wait) -> Decided:
        """The request with its decision."""
        return Decided(self, decision)


class Decided(msgspec.Struct, frozen=True):
    """A request and what becomes of it."""

    taken: Taken
    decision: Decision

    @property
    def accepted(self) -> Accepted:
        """The request itself."""
        return self.taken.accepted

    def follow_up(self, shard: int) -> Outgoing:
        """The record to produce; ``shard`` is that of its organization."""
        return follow_up(self.accepted, self.decision, passed_on(self.taken.record.headers), shard)
