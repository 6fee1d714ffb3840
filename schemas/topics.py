"""The only list of topics. Names, keys, values and retention; created by ``tallygate topics apply``. Pure.

Names carry their version; a changed meaning is a new topic. Source: design.md section 2.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

__all__ = [
    "AUDIT",
    "BACKGROUND",
    "CONFIG",
    "DEFERRED_1S",
    "DEFERRED_10S",
    "DEFERRED_60S",
    "DEFERRED_DELAYS_MS",
    "DISPATCH",
    "KEYED_BY_ORG",
    "MAX_RECORD_BYTES",
    "OUTCOMES",
    "READ_BY",
    "REQUESTS",
    "RESULTS",
    "SPEND_GROUP",
    "TOPICS",
    "USAGE_RECORDS",
    "USAGE_TABLES",
    "WEBHOOKS",
    "WEBHOOKS_GIVEN_UP",
    "WEBHOOK_GROUP",
    "WEBHOOK_PAUSES_MS",
    "Topic",
    "dead_letters_of",
    "group_of",
]

ORIGINAL_BYTES: Final = ("original bytes",)
RESULT_BYTES: Final = ("result bytes",)

_HOUR_MS: Final = 3_600_000
_DAY_MS: Final = 24 * _HOUR_MS

MAX_RECORD_BYTES: Final = 8 * 1024 * 1024
"""``max.message.bytes`` of every topic: a 4 MiB body, embedded once, with room for its record."""


_GIB: Final = 1 << 30
_SEGMENT_BYTES_MAX: Final = 256 << 20
_SEGMENTS_MIN: Final = 4
"""Only whole segments leave, and never the one that is written."""


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic: what its key is, what its records are, how long they stay.

    ``retention_bytes`` bounds one partition on disk. It deletes what nobody has read yet, too, so it
    stands far above what can be read in time, and never where money, audit or configuration is.
    """

    name: str
    key: str
    records: tuple[str, ...]
    cleanup: Literal["delete", "compact"]
    retention_ms: int | None
    """``None`` for compacted topics, which keep the newest record of each key."""
    one_partition: bool = False
    has_dead_letters: bool = False
    retention_bytes: int | None = None

    @property
    def holds_events(self) -> bool:
        """Whether its records are events, and not bytes of somebody else's."""
        return self.records not in (ORIGINAL_BYTES, RESULT_BYTES)

    def settings(self) -> dict[str, str]:
        """The topic's configuration, under Kafka's names."""
        settings = {
            "cleanup.policy": self.cleanup,
            "max.message.bytes": str(MAX_RECORD_BYTES),
            "message.timestamp.type": "LogAppendTime",
        }
        if self.retention_ms is not None:
            settings["retention.ms"] = str(self.retention_ms)
        # Said also where there is no bound, or a broker's own default would apply.
        settings["retention.bytes"] = str(self.retention_bytes or -1)
        if self.retention_bytes is not None:
            segment_bytes = min(_SEGMENT_BYTES_MAX, self.retention_bytes // _SEGMENTS_MIN)
            settings["segment.bytes"] = str(segment_bytes)
        return settings


REQUESTS: Final = "inference.requests.v1"
BACKGROUND: Final = "inference.background.v1"
"""Requests that nobody waits for on a connection; read while the others are not behind."""
DISPATCH: Final = "inference.dispatch.v1"
RESULTS: Final = "inference.results.v1"
"""Answers of jobs and keyed requests that are too large for their outcomes."""
OUTCOMES: Final = "inference.outcomes.v1"
USAGE_RECORDS: Final = "usage.records.v1"
USAGE_TABLES: Final = "usage.tables.v1"
AUDIT: Final = "audit.router"
CONFIG: Final = "config.entries.v1"
DEFERRED_1S: Final = "inference.deferred-1s.v1"
DEFERRED_10S: Final = "inference.deferred-10s.v1"
DEFERRED_60S: Final = "inference.deferred-60s.v1"

WEBHOOKS: Final = "webhooks.v1"
"""The outbox: everything that somebody is told by a webhook, as it is told first."""
WEBHOOKS_GIVEN_UP: Final = "webhooks.given-up.v1"
"""What nobody took within a day."""
WEBHOOK_PAUSES_MS: Final = {
    "webhooks.retry-5s.v1": 5_000,
    "webhooks.retry-30s.v1": 30_000,
    "webhooks.retry-5m.v1": 300_000,
    "webhooks.retry-1h.v1": _HOUR_MS,
}
"""Where a message waits for another try, and how long at most until it is looked at again."""

DEFERRED_DELAYS_MS: Final = {DEFERRED_1S: 1_000, DEFERRED_10S: 10_000, DEFERRED_60S: 60_000}
"""How long a request waits in each tier, the shortest first. One delay per topic keeps each of its
partitions in the order of time."""


READ_BY: Final[Mapping[str, tuple[str, ...]]] = {
    "limiter_worker": (REQUESTS, BACKGROUND, *DEFERRED_DELAYS_MS),
    "dispatcher": (DISPATCH,),
    "accounting": (OUTCOMES,),
}
"""What the workers of each role read; no topic is read by two."""


def group_of(role: str) -> str:
    """The consumer group of a role's workers."""
    return f"tallygate-{role}"


SPEND_GROUP: Final = f"{group_of('accounting')}-spend"
"""The group in which accounting tells an external budget service what the outcomes say was spent."""

WEBHOOK_GROUP: Final = f"{group_of('dispatcher')}-webhooks"
"""The group in which the dispatchers make messages of what happened, and deliver them."""


def dead_letters_of(topic: str) -> str:
    """Name of the topic that takes the dead letters of ``topic``."""
    return f"{topic}.dlq"


def _delete(
    name: str,
    key: str,
    records: tuple[str, ...],
    keep_ms: int,
    *,
    dlq: bool,
    keep_bytes: int | None = None,
) -> Topic:
    return Topic(
        name, key, records, "delete", keep_ms, has_dead_letters=dlq, retention_bytes=keep_bytes
    )


# A request is over ten minutes after it was made at the latest: 4 GiB are 7 MB/s of one partition.
_MAIN: Final = (
    _delete(REQUESTS, "org_id", ("RequestAccepted",), 72 * _HOUR_MS, dlq=True, keep_bytes=4 * _GIB),
    _delete(
        BACKGROUND, "org_id", ("RequestAccepted",), 72 * _HOUR_MS, dlq=True, keep_bytes=4 * _GIB
    ),
    *(
        _delete(tier, "org_id", ("RequestAccepted",), 2 * _HOUR_MS, dlq=True, keep_bytes=_GIB)
        for tier in DEFERRED_DELAYS_MS
    ),
    _delete(
        DISPATCH, "request_id", ("RequestAdmitted",), 72 * _HOUR_MS, dlq=True, keep_bytes=2 * _GIB
    ),
    _delete(OUTCOMES, "org_id", ("RequestFinished", "AttemptAdjusted"), 72 * _HOUR_MS, dlq=True),
    _delete(RESULTS, "org_id", RESULT_BYTES, 72 * _HOUR_MS, dlq=False, keep_bytes=2 * _GIB),
    _delete(USAGE_RECORDS, "org_id", ("UsageRecorded",), 400 * _DAY_MS, dlq=False),
    Topic(
        USAGE_TABLES,
        "org_id|table, key hash or job; shard|checkpoint",
        ("TableSnapshot", "ShardCheckpoint", "KeptRequest"),
        "compact",
        None,
    ),
    _delete(AUDIT, "org_id", ("AuditRecorded",), 400 * _DAY_MS, dlq=False),
    # A message is tried for a day; for a week somebody may ask for it again.
    _delete(WEBHOOKS, "org_id", ("WebhookMessage",), 7 * _DAY_MS, dlq=False),
    *(
        Topic(tier, "org_id", ("WebhookMessage",), "delete", 7 * _DAY_MS, one_partition=True)
        for tier in WEBHOOK_PAUSES_MS
    ),
    Topic(
        WEBHOOKS_GIVEN_UP,
        "org_id",
        ("WebhookMessage",),
        "delete",
        14 * _DAY_MS,
        one_partition=True,
    ),
    Topic(CONFIG, "kind/id", ("ConfigEntry",), "compact", None, one_partition=True),
)

TOPICS: Final = _MAIN + tuple(
    _delete(
        dead_letters_of(topic.name),
        "original key",
        ORIGINAL_BYTES,
        14 * _DAY_MS,
        dlq=False,
        keep_bytes=_GIB // 4,
    )
    for topic in _MAIN
    if topic.has_dead_letters
)

KEYED_BY_ORG: Final = frozenset(topic.name for topic in TOPICS if topic.key == "org_id")
"""Topics whose records have the key of their organization, and so few keys for many records."""
