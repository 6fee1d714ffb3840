"""The events that cross processes, one class per Avro schema in ``schemas/avro``. Pure.

Instances are frozen values. What a field means and its unit stands under it as in the ``.avsc`` files; a
contract test holds the two against each other.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from schemas.control_events import AuditRecorded, ConfigEntry
from schemas.event_parts import Attempt, Booking, Denial, Hold, RateStatus, RecordRef, Said
from schemas.price_parts import (
    PinnedPrice,
    PriceBand,
    PriceDetails,
    Reach,
    ToolCalls,
    ToolPrice,
    Uplift,
)
from schemas.shard_events import KeptRequest, ShardCheckpoint, TableSnapshot

__all__ = [
    "Attempt",
    "AttemptAdjusted",
    "AuditRecorded",
    "Booking",
    "ConfigEntry",
    "Denial",
    "Event",
    "Hold",
    "KeptRequest",
    "PinnedPrice",
    "PriceBand",
    "PriceDetails",
    "RateStatus",
    "Reach",
    "RecordRef",
    "RequestAccepted",
    "RequestAdmitted",
    "RequestFinished",
    "Said",
    "ShardCheckpoint",
    "TableSnapshot",
    "ToolCalls",
    "ToolPrice",
    "Uplift",
    "UsageRecorded",
    "WebhookMessage",
]


class RequestAccepted(msgspec.Struct, frozen=True, kw_only=True):
    """Ingress authenticated and validated a request and took responsibility for it."""

    request_id: str
    """Id of the request, UUIDv7, made by ingress."""
    org: str
    """Organization that pays; the record's key on org-keyed topics."""
    project: str | None = None
    """Project of the key, if it has one."""
    key_id: str
    """API key that authenticated the request."""
    user: str | None = None
    """User of the key, if it has one."""
    route: str
    """API surface the client used, such as chat.completions or inference."""
    model: str
    """Model name the client asked for."""
    stream: bool
    """Whether the client wants server-sent events."""
    include_usage: bool
    """Whether the client asked for the usage chunk of a stream."""
    payload: bytes
    """JSON body to send to the backend."""
    input_tokens_bound: int
    """Proved upper bound of input tokens."""
    output_tokens_bound: int
    """Upper bound of output tokens, all choices together; also sent to the backend."""
    accepted_at_ms: int
    """When ingress accepted it, Unix milliseconds."""
    deadline_ms: int
    """When the client's answer is due, Unix milliseconds."""
    produce_by_ms: int
    """A copy appended later than this never runs: ingress has answered 503."""
    config_offset: int
    """Offset of the config log that ingress had applied."""
    reply_to: str | None = None
    """Bus channel of the ingress that holds the connection; null for jobs."""
    idempotency_hash: str | None = None
    """SHA-256 of the client's idempotency key, if it sent one."""
    keep_result: bool = False
    """Whether the outcome carries the result, for jobs and keyed requests."""
    not_before_ms: int | None = None
    """Set on deferred topics: when to try admission again."""
    background: bool = False
    """Whether nobody waits on a connection: it gives way to interactive requests and is never shed by age."""
    fingerprint: str | None = None
    """SHA-256 of the body that came with that key, lower-case hex; null without one."""
    job: str | None = None
    """Opaque facts of a job, as the ledger keeps them; null when it is none."""
    reach: Reach | None = None
    """What it can reach of a price beside plain input and output; null when nothing."""
    shown: bytes | None = None
    """What its surface repeats of it, as that encodes it; null where it repeats nothing."""
    batch_id: str | None = None
    """Batch that it is a line of; null when it is none."""
    batch_line: int | None = None
    """Number of that line, from 1; null when it is none."""


class RequestAdmitted(msgspec.Struct, frozen=True, kw_only=True):
    """All limits agreed; the worst case of the request is on hold in the ledger."""

    request_id: str
    """Id of the request, UUIDv7, made by ingress."""
    org: str
    """Organization that pays; the record's key on org-keyed topics."""
    accepted: bytes
    """The RequestAccepted record, verbatim."""
    accepted_ref: RecordRef
    """Where that record stands."""
    admitted_at_ms: int
    """When admission decided, Unix milliseconds."""
    holds: list[Hold]
    """What was reserved; enough to take the hold again after the ledger was rebuilt."""
    price: PinnedPrice | None = None
    """Pinned price; null when the model has none."""
    rate_status: str = "[]"
    """JSON list of what rates says; of records of versions 1 and 2, later ones leave it empty."""
    config_offset: int
    """Offset of the config log that the limiter had applied."""
    payload_elsewhere: bool = False
    """Whether the payload of accepted was left out: it is on the bus, else in the record at accepted_ref."""
    rates: list[RateStatus] | None = None
    """The buckets that were charged, for the x-ratelimit headers; null in records of versions 1 and 2."""
    leases: list[str] | None = None
    """The concurrency leases it entered, as keys of the ledger; null in records of versions 1 to 3."""
    rates_milli_per_s: list[int] | None = None
    """Refill of each bucket of rates, in thousandths of a unit per second; null in records of versions 1 to 3."""


class RequestFinished(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of a request; the first of its id in partition order is the effective one."""

    request_id: str
    """Id of the request, UUIDv7, made by ingress."""
    org: str
    """Organization that pays; the record's key on org-keyed topics."""
    project: str | None = None
    """Project of the key, if it has one."""
    key_id: str
    """API key that authenticated the request."""
    user: str | None = None
    """User of the key, if it has one."""
    route: str
    """API surface the client used."""
    model: str
    """Model name the client asked for."""
    status: str
    """completed, failed, refused, cancelled or expired."""
    http_status: int
    """Status the client got, or would have got."""
    error_code: str | None = None
    """Code of the error table; null when completed."""
    error_message: str | None = None
    """What the client was told."""
    denial: Denial | None = None
    """Set when a limit refused."""
    accepted_at_ms: int
    """Unix milliseconds."""
    finished_at_ms: int
    """Unix milliseconds."""
    deadline_ms: int
    """Unix milliseconds."""
    fence: int
    """Fence of the attempt that ended it; 0 when none ran."""
    attempts: list[Attempt]
    """Every backend call, each one usage line."""
    bookings: list[Booking]
    """What was settled on which balance."""
    parents: list[RecordRef]
    """The records it follows from, oldest first."""
    result: bytes | None = None
    """Body of the answer, for jobs and keyed requests; at most 1 MiB."""
    result_ref: RecordRef | None = None
    """Where a result stands that is too large for this record; null when it is here, or not kept."""
    result_sha256: str | None = None
    """SHA-256 of that result, lower-case hex; null without result_ref."""
    idempotency_hash: str | None = None
    """SHA-256 of the client's idempotency key, if it sent one."""
    fingerprint: str | None = None
    """SHA-256 of the body that came with that key, lower-case hex; null without one."""
    job: str | None = None
    """Opaque facts of a job, as the ledger keeps them; null when it is none."""
    unsettled: bool = False
    """Whether its spending is settled by whoever books it: the ledger was closed when it ended."""
    said: Said | None = None
    """What the backend named that refused it; null when it named nothing, and in records of versions 1 to 3."""
    response_status: str | None = None
    """How a response that runs as a job reads: completed, incomplete or failed; null of others, and in records of versions 1 to 4."""
    batch_id: str | None = None
    """Batch that it is a line of; null when it is none."""
    batch_line: int | None = None
    """Number of that line, from 1; null when it is none."""


class AttemptAdjusted(msgspec.Struct, frozen=True, kw_only=True):
    """A correction of a booked attempt; amounts are signed differences."""

    request_id: str
    """Id of the request, UUIDv7, made by ingress."""
    org: str
    """Organization that pays; the record's key on org-keyed topics."""
    project: str | None = None
    """Project of the key, if it has one."""
    key_id: str
    """API key that authenticated the request."""
    user: str | None = None
    """User of the key, if it has one."""
    route: str
    """API surface the client used."""
    model: str
    """Model name the client asked for."""
    revision: int
    """1, 2, ... per attempt."""
    delta: Attempt
    """Signed differences to what was booked before: tokens and cost."""
    bookings: list[Booking]
    """Signed differences per balance."""
    reason: str
    """Why, such as late_finish."""
    adjusted_at_ms: int
    """Unix milliseconds."""
    deadline_ms: int
    """Unix milliseconds."""
    parents: list[RecordRef]
    """The records it follows from, oldest first."""
    batch_id: str | None = None
    """Batch that it is a line of; null when it is none."""
    batch_line: int | None = None
    """Number of that line, from 1; null when it is none."""


class UsageRecorded(msgspec.Struct, frozen=True, kw_only=True):
    """One usage line: one attempt, or a correction of one. Deduplicate by ``usage_id``."""

    usage_id: str
    """<request>:<attempt>:<revision>; revision 0 is the original."""
    request_id: str
    """Id of the request, UUIDv7, made by ingress."""
    org: str
    """Organization that pays; the record's key on org-keyed topics."""
    project: str | None = None
    """Project of the key, if it has one."""
    key_id: str
    """API key that authenticated the request."""
    user: str | None = None
    """User of the key, if it has one."""
    attempt: int
    """1 or 2."""
    revision: int
    """0, or the number of the correction."""
    route: str
    """API surface the client used."""
    model: str
    """Model name the client asked for."""
    backend: str
    """Backend id."""
    status: str
    """Status of the attempt."""
    started_at_ms: int
    """Unix milliseconds."""
    finished_at_ms: int
    """Unix milliseconds."""
    input_tokens: int
    """Input tokens, cached ones included."""
    output_tokens: int
    """Output tokens, reasoning included."""
    cached_tokens: int
    """Input tokens read from the backend's cache."""
    reasoning_tokens: int
    """Output tokens spent on reasoning."""
    estimated: bool
    """True when the counts are not the backend's own."""
    price_version: str | None = None
    """Version of the pinned price."""
    cost_nano_usd: int | None = None
    """Cost in 1e-9 USD; null when the model has no price."""
    outcome: RecordRef
    """The outcome it was booked from."""
    cache_write_tokens: int = 0
    """Input tokens written to a cache for 5 minutes."""
    cache_write_1h_tokens: int = 0
    """Input tokens written to a cache for an hour."""
    audio_input_tokens: int = 0
    """Audio tokens among the input."""
    image_input_tokens: int = 0
    """Image tokens among the input."""
    audio_output_tokens: int = 0
    """Audio tokens among the output."""
    image_output_tokens: int = 0
    """Image tokens among the output."""
    tool_calls: int = 0
    """Calls of hosted tools."""
    tool_kinds: list[ToolCalls] | None = None
    """Those calls by kind, where the backend said it."""
    service_tier: str | None = None
    """Service tier that billed it; null for the default one."""
    batch_id: str | None = None
    """Batch that it is a line of; null when it is none."""
    batch_line: int | None = None
    """Number of that line, from 1; null when it is none."""


class WebhookMessage(msgspec.Struct, frozen=True, kw_only=True):
    """Something an organization is told by a webhook."""

    message_id: str
    """Stable id, the same at every delivery; receivers deduplicate by it."""
    org: str
    """Organization that is told; the record's key."""
    type: str
    """What happened, such as job.completed."""
    url: str | None = None
    """Where it goes; null: where the organization's configuration says."""
    body: bytes
    """What is sent, byte for byte, at every try."""
    happened_at_ms: int
    """Unix milliseconds."""
    pauses: int = 0
    """Pauses that were begun so far."""
    tries: int = 0
    """Times it was sent so far."""
    not_before_ms: int = 0
    """Not sent earlier, in Unix milliseconds."""
    answer: str | None = None
    """What came of the last try, or why there was none; null before the first."""
    round: int = 0
    """Times it was delivered anew by command."""


Event: TypeAlias = (
    RequestAccepted
    | RequestAdmitted
    | RequestFinished
    | AttemptAdjusted
    | UsageRecorded
    | TableSnapshot
    | ShardCheckpoint
    | KeptRequest
    | AuditRecorded
    | ConfigEntry
    | WebhookMessage
)
