"""The events of ``usage.tables.v1``: what a ledger shard is rebuilt from, one class per Avro schema. Pure.

Each is an absolute value that replaces the one before of its key; a shard's stand in its partition number.
"""

from __future__ import annotations

import msgspec

from schemas.event_parts import RecordRef

__all__ = ["KeptRequest", "ShardCheckpoint", "TableSnapshot"]


class TableSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """Absolute values of one ledger table, and the outcome offset they stand for."""

    org: str
    """Organization."""
    table: str
    """usage or balances."""
    hour: str | None = None
    """Hour of a usage table, YYYY-MM-DDTHH in UTC."""
    partition: int
    """Partition of inference.outcomes.v1."""
    offset: int
    """Last outcome offset contained; -1 for none."""
    values: dict[str, int]
    r"""Field to value: <key>\t<user>\t<model>\t<backend>\t<measure>, or a balance."""
    taken_at_ms: int
    """Unix milliseconds."""
    part: int = 0
    """Which part of the table this is, from 0."""
    parts: int = 1
    """How many parts the table was split into; each has its own offset."""


class ShardCheckpoint(msgspec.Struct, frozen=True, kw_only=True):
    """Every table of a ledger shard that changed up to an outcome stands in the log before this record."""

    shard: int
    """Partition of inference.outcomes.v1 that the shard is the fold of."""
    offset: int
    """Last outcome offset that the records before this one contain; -1 for none."""
    appended_at_ms: int
    """When that outcome was appended, Unix milliseconds; 0 for none."""
    epoch: int
    """Epoch of the ledger shard."""
    cluster_id: str | None = None
    """Kafka's id of the cluster that holds the log, where it is known."""
    birth_id: str | None = None
    """Id of the log since it was made, where it is known."""
    taken_at_ms: int
    """Unix milliseconds."""


class KeptRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A request that is found by its idempotency key or in a list of jobs after it ended."""

    request_id: str
    """Id of the request, UUIDv7, made by ingress."""
    org: str
    """Organization that pays."""
    idempotency_hash: str | None = None
    """SHA-256 of the client's idempotency key; null when it is kept as a job."""
    fingerprint: str | None = None
    """SHA-256 of the body that came with that key, lower-case hex; null without one."""
    job: str | None = None
    """Opaque facts of a job, as the ledger keeps them; null when it is kept by its key."""
    created_at_ms: int
    """When the request was made, Unix milliseconds."""
    produce_by_ms: int
    """Until when its record may have been appended, Unix milliseconds."""
    deadline_ms: int
    """Unix milliseconds."""
    ended_at_ms: int
    """When its outcome was appended, Unix milliseconds."""
    expires_at_ms: int
    """When it is forgotten, Unix milliseconds."""
    status: str
    """completed, failed, refused, cancelled or expired."""
    ran: bool
    """Whether a backend was called."""
    fence: int
    """Fence of the attempt that ended it; 0 when none ran."""
    ends: str | None = None
    """Opaque text that says in short how a job ended."""
    outcome: RecordRef
    """Where its outcome stands."""
