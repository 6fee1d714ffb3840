"""The parts of events: records inside of records, shared by several of them. Pure.

Everybody imports them from ``schemas.events``, which says what each means beside the events.
"""

from __future__ import annotations

import msgspec

from schemas.price_parts import ToolCalls

__all__ = [
    "Attempt",
    "Booking",
    "Denial",
    "Hold",
    "RateStatus",
    "RecordRef",
]


class RecordRef(msgspec.Struct, frozen=True, kw_only=True):
    """Where a record stands in Kafka."""

    topic: str
    """Topic name."""
    partition: int
    """Partition."""
    offset: int
    """Offset."""


class Hold(msgspec.Struct, frozen=True, kw_only=True):
    """An amount reserved on one balance for one period."""

    key: str
    """Balance, as in the ledger: b:<scope>:<period>."""
    unit: str
    """nano_usd, tokens or requests."""
    amount: int
    """Reserved amount."""
    limit: int | None = None
    """Limit in force at admission; null when only tracked."""
    start_ms: int
    """Start of the period, Unix milliseconds."""
    end_ms: int
    """End of the period, exclusive; 0 for a total."""


class Booking(msgspec.Struct, frozen=True, kw_only=True):
    """An amount settled on one balance."""

    key: str
    """Balance, as in the ledger."""
    unit: str
    """nano_usd, tokens or requests."""
    amount: int
    """Settled amount."""


class RateStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A bucket after its charge; full again after ``reset_ms``."""

    id: str
    """Id of the limit, as in denials."""
    limit: int
    """What the bucket holds at most."""
    remaining: int
    """What is left in it."""
    reset_ms: int
    """Milliseconds until it is full again."""


class Denial(msgspec.Struct, frozen=True, kw_only=True):
    """The limit that refused a request, and its usage at that moment."""

    limit_id: str
    """Which limit, such as org:budget:month."""
    limit_type: str
    """rate_limit, quota or budget."""
    unit: str
    """nano_usd, tokens or requests."""
    current_usage: int
    """Usage when it refused, in the unit."""
    limit: int
    """The limit, in the unit."""
    retry_after_ms: int | None = None
    """When a retry can succeed; null when it cannot."""


class Said(msgspec.Struct, frozen=True):
    """What a backend named when it refused, beside its message; programs match on it."""

    code: str | None = None
    """Its code of the error."""
    param: str | None = None
    """The field of the request that it is about."""
    type: str | None = None
    """Its type of the error."""


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One call of a backend; each becomes one usage line."""

    attempt: int
    """1 or 2."""
    backend: str
    """Backend id."""
    status: str
    """succeeded, failed, interrupted, cancelled or unknown."""
    started_at_ms: int
    """Unix milliseconds."""
    first_token_at_ms: int | None = None
    """When the first content frame left, for streams."""
    finished_at_ms: int
    """Unix milliseconds."""
    upstream_status: int | None = None
    """HTTP status of the backend, if it answered."""
    input_tokens: int = 0
    """Input tokens, cached ones included."""
    output_tokens: int = 0
    """Output tokens, reasoning included."""
    cached_tokens: int = 0
    """Input tokens read from the backend's cache."""
    reasoning_tokens: int = 0
    """Output tokens spent on reasoning."""
    estimated: bool = False
    """True when the counts are ours and not the backend's."""
    price_version: str | None = None
    """Version of the pinned price."""
    cost_nano_usd: int | None = None
    """Cost; null when the model has no price."""
    provider_id: str | None = None
    """The backend's own id of the completion."""
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
    told_input_tokens: int | None = None
    """What the backend said of its input, where that could not be and the bound was booked; null else."""
    told_output_tokens: int | None = None
    """The same of its output."""
