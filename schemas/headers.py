"""Headers of records: CloudEvents in binary mode, plus what routing needs without decoding. Pure.

The one dialect of all processes: ``ce_`` and the attribute's name, text in UTF-8; times in RFC 3339 and UTC;
types in reverse DNS; the source names the role and not the replica, and within a source no two events share an
id. Both are the same however often an event is made, so that consumers may deduplicate by (source, id).
Source: CloudEvents 1.0.2, Kafka protocol binding 3.2.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal, TypeAlias

from schemas import topics

__all__ = [
    "ACCEPTED",
    "ADJUSTED",
    "ADMITTED",
    "AUDITED",
    "CHECKPOINT",
    "CONFIGURED",
    "DEFERRED",
    "FINISHED",
    "KEPT",
    "KINDS",
    "REPLAY_ID",
    "REPLAY_OF",
    "REPLAY_OF_BETWEEN",
    "RESULT",
    "SHARD",
    "TABLE",
    "USAGE",
    "WEBHOOK",
    "WEBHOOK_GIVEN_UP",
    "WEBHOOK_PAUSED",
    "Kind",
    "Source",
    "event_headers",
    "event_time",
    "passed_on",
    "source_of",
]

Source: TypeAlias = Literal["ingress", "admin", "limiter_worker", "dispatcher", "accounting"]
"""The role that says so."""

SHARD: Final = "shard"
"""Of an admission: the number of the ledger shard in which it holds."""

REPLAY_ID: Final = "replay_id"
"""Of a copy: the replay that made it."""

REPLAY_OF: Final = "replay_of"
"""Of a copy: topic, partition, offset and append time of the record that it is a copy of."""

REPLAY_OF_BETWEEN: Final = "@"
"""What stands between those."""

_PASSED_ON: Final = ("request_id", "deadline_ms", "traceparent")
_SPEC_VERSION: Final = b"1.0"
_UTC_OFFSET: Final = len("+00:00")


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of record: the event it tells of, what its value is, and the topics where it may stand."""

    event: str
    """What it is about and what happened to that, such as ``request.accepted``."""
    value: str
    """Name of its Avro record, as ``TOPICS`` says it."""
    topics: tuple[str, ...]
    content_type: bytes = b"application/avro"

    @property
    def type(self) -> str:
        """Its CloudEvents type."""
        return f"dev.tallygate.{self.event}.v1"

    def id_of(self, request_id: str) -> str:
        """The event's id where it happens to a request once: other events of that request share none."""
        return f"{request_id}:{self.event.rpartition('.')[2]}"


ACCEPTED: Final = Kind("request.accepted", "RequestAccepted", (topics.REQUESTS, topics.BACKGROUND))
DEFERRED: Final = Kind("request.deferred", "RequestAccepted", tuple(topics.DEFERRED_DELAYS_MS))
ADMITTED: Final = Kind("request.admitted", "RequestAdmitted", (topics.DISPATCH,))
FINISHED: Final = Kind("request.finished", "RequestFinished", (topics.OUTCOMES,))
RESULT: Final = Kind(
    "request.result", *topics.RESULT_BYTES, (topics.RESULTS,), content_type=b"application/json"
)
ADJUSTED: Final = Kind("attempt.adjusted", "AttemptAdjusted", (topics.OUTCOMES,))
USAGE: Final = Kind("usage.recorded", "UsageRecorded", (topics.USAGE_RECORDS,))
TABLE: Final = Kind("usage.table", "TableSnapshot", (topics.USAGE_TABLES,))
CHECKPOINT: Final = Kind("shard.checkpoint", "ShardCheckpoint", (topics.USAGE_TABLES,))
KEPT: Final = Kind("request.kept", "KeptRequest", (topics.USAGE_TABLES,))
AUDITED: Final = Kind("audit.recorded", "AuditRecorded", (topics.AUDIT,))
CONFIGURED: Final = Kind("config.written", "ConfigEntry", (topics.CONFIG,))
WEBHOOK: Final = Kind("webhook.due", "WebhookMessage", (topics.WEBHOOKS,))
WEBHOOK_PAUSED: Final = Kind("webhook.paused", "WebhookMessage", tuple(topics.WEBHOOK_PAUSES_MS))
WEBHOOK_GIVEN_UP: Final = Kind("webhook.abandoned", "WebhookMessage", (topics.WEBHOOKS_GIVEN_UP,))

KINDS: Final = (
    ACCEPTED, DEFERRED, ADMITTED, FINISHED, RESULT, ADJUSTED, USAGE, TABLE, CHECKPOINT, KEPT, AUDITED,
    CONFIGURED, WEBHOOK, WEBHOOK_PAUSED, WEBHOOK_GIVEN_UP,
)  # fmt: skip
"""Every kind of record that is produced; dead letters keep the headers of what they were."""


def event_headers(
    kind: Kind, event_id: str, source: Source, at_ms: int, more: Mapping[str, bytes] | None = None
) -> list[tuple[str, bytes]]:
    """Headers of a record of that kind, about what happened at ``at_ms``."""
    headers = [
        *_common(kind, source),
        ("ce_id", event_id.encode()),
        ("ce_time", event_time(at_ms).encode()),
        ("content-type", kind.content_type),
    ]
    if more is not None:
        headers += more.items()
    return headers


@functools.cache
def _common(kind: Kind, source: Source) -> tuple[tuple[str, bytes], ...]:
    return (
        ("ce_specversion", _SPEC_VERSION),
        ("ce_type", kind.type.encode()),
        ("ce_source", source_of(source).encode()),
    )


def source_of(role: Source) -> str:
    """The URI reference that stands for a role."""
    return f"/tallygate/{role}"


def event_time(at_ms: int) -> str:
    """A time as CloudEvents have it, to the millisecond."""
    seconds, ms = divmod(at_ms, 1_000)
    return f"{_second(seconds)}.{ms:03d}Z"


@functools.lru_cache(maxsize=64)
def _second(at_s: int) -> str:
    """The same without milliseconds; what happens is mostly of the second in which the last thing did."""
    return datetime.fromtimestamp(at_s, UTC).isoformat()[:-_UTC_OFFSET]


def passed_on(headers: Mapping[str, bytes]) -> dict[str, bytes]:
    """The headers that every record of a request's path carries on."""
    return {name: headers[name] for name in _PASSED_ON if name in headers}
