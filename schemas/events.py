"""The events that cross processes, one class per Avro schema in ``schemas/avro``. Pure.

Instances are frozen values. Field meanings and units stand in the ``.avsc`` files; a contract test
holds the two against each other.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

__all__ = [
    "Attempt",
    "AttemptAdjusted",
    "AuditRecorded",
    "Booking",
    "ConfigEntry",
    "Denial",
    "Event",
    "Hold",
    "PinnedPrice",
    "RateStatus",
    "RecordRef",
    "RequestAccepted",
    "RequestAdmitted",
    "RequestFinished",
    "TableSnapshot",
    "UsageRecorded",
]


class RecordRef(msgspec.Struct, frozen=True, kw_only=True):
    """Where a record stands in Kafka."""

    topic: str
    partition: int
    offset: int


class PinnedPrice(msgspec.Struct, frozen=True, kw_only=True):
    """The price that admission pinned, in nano-USD per million tokens."""

    version: str
    input_nano_usd_per_mtok: int
    cached_input_nano_usd_per_mtok: int
    output_nano_usd_per_mtok: int


class Hold(msgspec.Struct, frozen=True, kw_only=True):
    """An amount reserved on one balance for one period."""

    key: str
    unit: str
    amount: int
    limit: int | None = None
    start_ms: int
    end_ms: int


class Booking(msgspec.Struct, frozen=True, kw_only=True):
    """An amount settled on one balance."""

    key: str
    unit: str
    amount: int


class RateStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A bucket after its charge; full again after ``reset_ms``."""

    id: str
    limit: int
    remaining: int
    reset_ms: int


class Denial(msgspec.Struct, frozen=True, kw_only=True):
    """The limit that refused a request, and its usage at that moment."""

    limit_id: str
    limit_type: str
    unit: str
    current_usage: int
    limit: int
    retry_after_ms: int | None = None


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One call of a backend; each becomes one usage line."""

    attempt: int
    backend: str
    status: str
    started_at_ms: int
    first_token_at_ms: int | None = None
    finished_at_ms: int
    upstream_status: int | None = None
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    estimated: bool = False
    price_version: str | None = None
    cost_nano_usd: int | None = None
    provider_id: str | None = None


class RequestAccepted(msgspec.Struct, frozen=True, kw_only=True):
    """Ingress authenticated and validated a request and took responsibility for it."""

    request_id: str
    org: str
    project: str | None = None
    key_id: str
    user: str | None = None
    route: str
    model: str
    stream: bool
    include_usage: bool
    payload: bytes
    input_tokens_bound: int
    output_tokens_bound: int
    accepted_at_ms: int
    deadline_ms: int
    produce_by_ms: int
    config_offset: int
    reply_to: str | None = None
    idempotency_hash: str | None = None
    keep_result: bool = False
    not_before_ms: int | None = None
    background: bool = False


class RequestAdmitted(msgspec.Struct, frozen=True, kw_only=True):
    """All limits agreed; the worst case of the request is on hold in the ledger."""

    request_id: str
    org: str
    accepted: bytes
    accepted_ref: RecordRef
    admitted_at_ms: int
    holds: list[Hold]
    price: PinnedPrice | None = None
    rate_status: str = "[]"
    config_offset: int
    payload_elsewhere: bool = False
    rates: list[RateStatus] | None = None


class RequestFinished(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of a request; the first of its id in partition order is the effective one."""

    request_id: str
    org: str
    project: str | None = None
    key_id: str
    user: str | None = None
    route: str
    model: str
    status: str
    http_status: int
    error_code: str | None = None
    error_message: str | None = None
    denial: Denial | None = None
    accepted_at_ms: int
    finished_at_ms: int
    deadline_ms: int
    fence: int
    attempts: list[Attempt]
    bookings: list[Booking]
    parents: list[RecordRef]
    result: bytes | None = None
    result_ref: RecordRef | None = None
    result_sha256: str | None = None


class AttemptAdjusted(msgspec.Struct, frozen=True, kw_only=True):
    """A correction of a booked attempt; amounts are signed differences."""

    request_id: str
    org: str
    project: str | None = None
    key_id: str
    user: str | None = None
    route: str
    model: str
    revision: int
    delta: Attempt
    bookings: list[Booking]
    reason: str
    adjusted_at_ms: int
    deadline_ms: int
    parents: list[RecordRef]


class UsageRecorded(msgspec.Struct, frozen=True, kw_only=True):
    """One usage line: one attempt, or a correction of one. Deduplicate by ``usage_id``."""

    usage_id: str
    request_id: str
    org: str
    project: str | None = None
    key_id: str
    user: str | None = None
    attempt: int
    revision: int
    route: str
    model: str
    backend: str
    status: str
    started_at_ms: int
    finished_at_ms: int
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    reasoning_tokens: int
    estimated: bool
    price_version: str | None = None
    cost_nano_usd: int | None = None
    outcome: RecordRef


class TableSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """Absolute values of one ledger table, and the outcome offset they stand for."""

    org: str
    table: str
    hour: str | None = None
    partition: int
    offset: int
    values: dict[str, int]
    taken_at_ms: int


class AuditRecorded(msgspec.Struct, frozen=True, kw_only=True):
    """Something an auditor may ask about; deduplicate by ``audit_id``."""

    audit_id: str
    org: str
    action: str
    actor: str
    request_id: str | None = None
    at_ms: int
    detail: str


class ConfigEntry(msgspec.Struct, frozen=True, kw_only=True):
    """Desired state of one entity; ``body`` is null when it was deleted."""

    kind: str
    id: str
    version: int
    body: str | None = None
    written_at_ms: int
    written_by: str


Event: TypeAlias = (
    RequestAccepted
    | RequestAdmitted
    | RequestFinished
    | AttemptAdjusted
    | UsageRecorded
    | TableSnapshot
    | AuditRecorded
    | ConfigEntry
)
