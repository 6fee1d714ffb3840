"""Records on their way to a topic, one function for each kind: topic, key, value and headers. Pure.

Nobody else puts a record together, so that whatever is in the log can be told from its headers. Times are
those of the events, so that what is produced again is equal to what was, byte for byte.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from schemas import headers, topics
from schemas.codec import encode
from schemas.config_state import LEDGER_SHARD
from schemas.events import (
    AttemptAdjusted,
    AuditRecorded,
    ConfigEntry,
    KeptRequest,
    RecordRef,
    RequestAccepted,
    RequestAdmitted,
    RequestFinished,
    ShardCheckpoint,
    TableSnapshot,
    UsageRecorded,
    WebhookMessage,
)
from schemas.flex import FLEX_HEADER, is_flex
from schemas.headers import Source, event_headers
from schemas.snapshots import key_of

__all__ = [
    "Headers",
    "Outgoing",
    "accepted_headers",
    "accepted_record",
    "adjustment_record",
    "admitted_record",
    "audit_record",
    "checkpoint_record",
    "config_record",
    "copied_record",
    "deferred_record",
    "epoch_record",
    "kept_record",
    "outcome_record",
    "result_record",
    "table_record",
    "tombstone_record",
    "traced",
    "usage_record",
    "webhook_given_up_record",
    "webhook_paused_record",
    "webhook_record",
]


Headers: TypeAlias = Sequence[tuple[str, bytes]]


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A record on its way to a topic."""

    topic: str
    key: bytes
    value: bytes | None
    headers: Headers = ()
    partition: int | None = None
    """Where it has to stand; ``None``: where its key says."""


def traced(record: Outgoing, traceparent: bytes) -> Outgoing:
    """The record as it is sent where its request is traced: whoever reads it goes on below its sender's span."""
    others = (header for header in record.headers if header[0] != "traceparent")
    said = (*others, ("traceparent", traceparent))
    return Outgoing(record.topic, record.key, record.value, said, record.partition)


def accepted_headers(
    accepted: RequestAccepted, traceparent: bytes | None
) -> list[tuple[str, bytes]]:
    """What the record of an accepted request says beside its value, and all that follow carry on."""
    kind, request_id = headers.ACCEPTED, accepted.request_id
    more = {"request_id": request_id.encode(), "deadline_ms": b"%d" % accepted.deadline_ms}
    if traceparent is not None:
        more["traceparent"] = traceparent
    if is_flex(accepted):
        more.update((FLEX_HEADER,))
    return event_headers(kind, kind.id_of(request_id), "ingress", accepted.accepted_at_ms, more)


def accepted_record(accepted: RequestAccepted, said: Headers) -> Outgoing:
    """A request that ingress took responsibility for, under its ``accepted_headers``."""
    topic = topics.BACKGROUND if accepted.background else topics.REQUESTS
    return Outgoing(topic, accepted.org.encode(), encode(accepted), said)


def deferred_record(
    waiting: RequestAccepted, tier: str, number: int, at_ms: int, more: Mapping[str, bytes]
) -> Outgoing:
    """A request that waits for its limit in a delay tier, for the ``number``-th time."""
    event_id = f"{headers.DEFERRED.id_of(waiting.request_id)}:{number}"
    said = event_headers(headers.DEFERRED, event_id, "limiter_worker", at_ms, more)
    return Outgoing(tier, waiting.org.encode(), encode(waiting), said)


def admitted_record(admitted: RequestAdmitted, shard: int, more: Mapping[str, bytes]) -> Outgoing:
    """A request whose worst case is on hold; its key spreads one organization over all partitions, so a header
    says in which ledger shard it holds."""
    kind, request_id = headers.ADMITTED, admitted.request_id
    at_ms = admitted.admitted_at_ms
    said = event_headers(kind, kind.id_of(request_id), "limiter_worker", at_ms, more)
    said.append((headers.SHARD, b"%d" % shard))
    return Outgoing(topics.DISPATCH, request_id.encode(), encode(admitted), said)


def outcome_record(
    finished: RequestFinished,
    source: Source,
    more: Mapping[str, bytes] | None = None,
    encoded: bytes | None = None,
) -> Outgoing:
    """How a request ended, by whoever writes it; ``encoded`` where its bytes are made already."""
    kind, request_id = headers.FINISHED, finished.request_id
    carried = {"request_id": request_id.encode()} if more is None else more
    said = event_headers(kind, kind.id_of(request_id), source, finished.finished_at_ms, carried)
    return Outgoing(topics.OUTCOMES, finished.org.encode(), encoded or encode(finished), said)


def result_record(finished: RequestFinished, more: Mapping[str, bytes]) -> Outgoing:
    """The result of an outcome, which is too large to stand in it."""
    assert finished.result is not None
    kind, at_ms = headers.RESULT, finished.finished_at_ms
    said = event_headers(kind, kind.id_of(finished.request_id), "dispatcher", at_ms, more)
    return Outgoing(topics.RESULTS, finished.org.encode(), finished.result, said)


def adjustment_record(
    change: AttemptAdjusted, more: Mapping[str, bytes], source: headers.Source = "dispatcher"
) -> Outgoing:
    """A correction of a booked attempt, by whoever found out what it really used."""
    event_id = f"{change.request_id}:{change.delta.attempt}:{change.revision}"
    at_ms = change.adjusted_at_ms
    said = event_headers(headers.ADJUSTED, event_id, source, at_ms, more)
    return Outgoing(topics.OUTCOMES, change.org.encode(), encode(change), said)


def usage_record(line: UsageRecorded) -> Outgoing:
    """A usage line."""
    more = {"request_id": line.request_id.encode()}
    at_ms = line.finished_at_ms
    said = event_headers(headers.USAGE, line.usage_id, "accounting", at_ms, more)
    return Outgoing(topics.USAGE_RECORDS, line.org.encode(), encode(line), said)


def table_record(snapshot: TableSnapshot) -> Outgoing:
    """A table's values at an offset, in the partition of its shard."""
    key = key_of(snapshot)
    event_id = f"{key}@{snapshot.offset}"
    at_ms = snapshot.taken_at_ms
    said = event_headers(headers.TABLE, event_id, "accounting", at_ms)
    return _of_shard(snapshot.partition, key, encode(snapshot), said)


def checkpoint_record(checkpoint: ShardCheckpoint) -> Outgoing:
    """How far the tables of a shard stand in the log."""
    key, at_ms = key_of(checkpoint), checkpoint.taken_at_ms
    event_id = f"{key}@{checkpoint.offset}:{at_ms}"
    said = event_headers(headers.CHECKPOINT, event_id, "accounting", at_ms)
    return _of_shard(checkpoint.shard, key, encode(checkpoint), said)


def kept_record(kept: KeptRequest) -> Outgoing:
    """An ended request that is found by its key or as a job, beside the tables of its shard."""
    key = key_of(kept)
    said = event_headers(
        headers.KEPT, f"{key}@{kept.outcome.offset}", "accounting", kept.ended_at_ms
    )
    return _of_shard(kept.outcome.partition, key, encode(kept), said)


def tombstone_record(shard: int, key: str) -> Outgoing:
    """The end of what a key of a shard's snapshots is of; no event, but Kafka's own sign for compaction."""
    return _of_shard(shard, key, None, ())


def _of_shard(shard: int, key: str, value: bytes | None, said: Headers) -> Outgoing:
    return Outgoing(topics.USAGE_TABLES, key.encode(), value, said, shard)


def audit_record(event: AuditRecorded, source: Source) -> Outgoing:
    """Something an auditor may ask about."""
    more = {} if event.request_id is None else {"request_id": event.request_id.encode()}
    said = event_headers(headers.AUDITED, event.audit_id, source, event.at_ms, more)
    return Outgoing(topics.AUDIT, event.org.encode(), encode(event), said)


def config_record(entry: ConfigEntry, source: Source = "admin") -> Outgoing:
    """The desired state of an entity."""
    key = f"{entry.kind}/{entry.id}"
    at_ms = entry.written_at_ms
    said = event_headers(headers.CONFIGURED, f"{key}:{entry.version}", source, at_ms)
    return Outgoing(topics.CONFIG, key.encode(), encode(entry), said)


def webhook_record(message: WebhookMessage, source: Source = "dispatcher") -> Outgoing:
    """A message that is to be delivered. Whoever makes something durable that somebody is told of may produce it: made
    again it is the same, and receivers see its id."""
    event_id = f"{message.message_id}:{message.round}"
    at_ms = message.happened_at_ms
    said = event_headers(headers.WEBHOOK, event_id, source, at_ms)
    return Outgoing(topics.WEBHOOKS, message.org.encode(), encode(message), said)


def webhook_paused_record(message: WebhookMessage, tier: str, now_ms: int) -> Outgoing:
    """A message that waits for another try."""
    event_id = f"{message.message_id}:{message.round}:{message.pauses}:{now_ms}"
    said = event_headers(headers.WEBHOOK_PAUSED, event_id, "dispatcher", now_ms)
    return Outgoing(tier, message.org.encode(), encode(message), said)


def webhook_given_up_record(message: WebhookMessage, now_ms: int) -> Outgoing:
    """A message that nobody took."""
    event_id = f"{message.message_id}:{message.round}:abandoned"
    said = event_headers(headers.WEBHOOK_GIVEN_UP, event_id, "dispatcher", now_ms)
    return Outgoing(topics.WEBHOOKS_GIVEN_UP, message.org.encode(), encode(message), said)


def copied_record(
    topic: str,
    key: bytes,
    value: bytes | None,
    said: Headers,
    partition: int | None,
    *,
    of: RecordRef,
    appended_at_ms: int,
    replay_id: str,
) -> Outgoing:
    """A copy that a replay makes of the record at ``of``, for another topic: the record as it was, and of what it is one."""
    place = (of.topic, str(of.partition), str(of.offset), str(appended_at_ms))
    own = {
        headers.REPLAY_ID: replay_id.encode(),
        headers.REPLAY_OF: headers.REPLAY_OF_BETWEEN.join(place).encode(),
    }
    kept = [(name, content) for name, content in said if name not in own]
    return Outgoing(topic, key, value, [*kept, *own.items()], partition)


def epoch_record(shard: int, epoch: int, now_ms: int) -> Outgoing:
    """The epoch under which a shard of the ledger is rebuilt, for every process that reads the configuration."""
    entry = ConfigEntry(
        kind=LEDGER_SHARD,
        id=str(shard),
        version=epoch,
        body=f'{{"epoch":{epoch}}}',
        written_at_ms=now_ms,
        written_by="accounting",
    )
    return config_record(entry, "accounting")
