"""Documents on a whole shard: which log is here, and that it begins. Pure."""

from __future__ import annotations

from schemas.ledger.documents import Part

__all__ = ["Identify", "Init", "Meet"]


class Meet(Part, frozen=True, kw_only=True):
    """A shard whose store a process has just connected to."""


class Identify(Part, frozen=True, kw_only=True):
    """The log that is here; None where something is not known.

    ``end`` is the offset after the newest outcome of the shard's partition, ``committed`` that at which accounting
    goes on; both were read after ``booked`` was told.
    """

    cluster_id: str | None = None
    birth_id: str | None = None
    booked: int | None = None
    end: int | None = None
    committed: int | None = None


class Init(Part, frozen=True, kw_only=True):
    """The epoch of a new shard."""

    epoch: int = 1
