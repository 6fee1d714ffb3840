"""The story of one request, assembled from its records: pure.

Nothing is inferred that no record says. The text of prompts and answers is left out unless asked for;
their sizes are told.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import msgspec

from schemas.attribution import Attributed
from schemas.audit import is_about
from schemas.claim_check import is_elsewhere
from schemas.codec import UNDECODABLE, decode, decode_as
from schemas.events import (
    Attempt,
    AttemptAdjusted,
    AuditRecorded,
    Booking,
    Event,
    RecordRef,
    RequestAccepted,
    RequestAdmitted,
    RequestFinished,
    UsageRecorded,
)
from schemas.rates import rates_of
from schemas.topics import BACKGROUND, REQUESTS
from schemas.trace_context import TraceContext, read_traceparent

_ORDER: Final = (
    "accepted", "deferred", "admitted", "attempt", "finished", "adjusted", "usage", "audit",
)  # fmt: skip
_ATTEMPT_FACTS: Final = (
    "attempt", "backend", "status", "upstream_status", "started_at_ms", "first_token_at_ms",
    "finished_at_ms", "input_tokens", "output_tokens", "cached_tokens", "reasoning_tokens",
    "cache_write_tokens", "cache_write_1h_tokens", "audio_input_tokens", "image_input_tokens",
    "audio_output_tokens", "image_output_tokens", "tool_calls", "tool_kinds", "service_tier",
    "told_input_tokens", "told_output_tokens", "estimated", "price_version", "cost_nano_usd",
    "provider_id",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Found:
    """A record of the request: where it stands, when it was appended, and what it says."""

    ref: RecordRef
    appended_at_ms: int
    event: Event
    trace: TraceContext | None = None
    """Of the record's headers."""


@dataclass(frozen=True, slots=True)
class Step:
    """Something that happened to the request.

    ``place`` is ``<topic>-<partition>@<offset>``. ``note`` tells a repeated record from the first.
    """

    at_ms: int
    what: str
    place: str
    facts: dict[str, Any]
    note: str | None = None


class LogRecord(Protocol):
    """A record as a consumer has it."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]


def found_in(record: LogRecord, request_id: str) -> Found | None:
    """The event in the record, if it is about the request."""
    # Ids stand in Avro as their own bytes, so most records need not be decoded.
    if record.value is None or request_id.encode() not in record.value:
        return None
    try:
        event = decode(record.value)
    except UNDECODABLE:
        return None
    if isinstance(event, AuditRecorded):
        is_wanted = is_about(event, request_id)
    else:
        is_wanted = getattr(event, "request_id", None) == request_id
    if not is_wanted:
        return None
    ref = RecordRef(topic=record.topic, partition=record.partition, offset=record.offset)
    traces = (read_traceparent(value) for name, value in record.headers if name == "traceparent")
    return Found(ref, record.timestamp, event, next(traces, None))


def assemble(found: Iterable[Found], *, with_payload: bool = False) -> list[Step]:
    """The steps in the order of time; records that stand at one place count once."""
    places = {(f.ref.topic, f.ref.partition, f.ref.offset): f for f in found}
    records = [places[place] for place in sorted(places)]
    copies: Counter[tuple[str, str]] = Counter()
    steps: list[Step] = []
    for record in records:
        identity = record.ref.topic, _identity(record.event)
        copies[identity] += 1
        steps += _steps(record, copies[identity], with_payload=with_payload)
    if not any(step.what == "accepted" for step in steps):
        steps += _embedded(records, with_payload=with_payload)
    return sorted(steps, key=lambda step: (step.at_ms, _ORDER.index(step.what), step.place))


def trace_of(found: Iterable[Found]) -> dict[str, Any] | None:
    """The trace of the request: its id, and whether its spans are recorded; ``None`` where no record names one."""
    traces = [record.trace for record in found if record.trace is not None]
    if not traces:
        return None
    is_recorded = any(trace.is_sampled for trace in traces)
    return {"trace_id": traces[0].trace_id.hex(), "is_recorded": is_recorded}


def effective_outcome(steps: Sequence[Step]) -> Step | None:
    """The outcome that counts: the first one in the order of the log."""
    outcomes = (step for step in steps if step.what == "finished" and step.note is None)
    return next(outcomes, None)


def refused_before_the_log(steps: Sequence[Step]) -> str | None:
    """The error code of a request that ingress refused by itself, whose only trace is its audit."""
    if {step.what for step in steps} != {"audit"}:
        return None
    refused = (s.facts["detail"] for s in steps if s.facts["action"] == "refused")
    return next((str(detail.get("code")) for detail in refused if isinstance(detail, dict)), None)


def _identity(event: Event) -> str:
    """What a repeated record has in common with its first one."""
    match event:
        case UsageRecorded():
            return event.usage_id
        case AuditRecorded():
            return event.audit_id
        case AttemptAdjusted():
            return f"{event.delta.attempt}:{event.revision}"
        case _:
            return type(event).__name__


def _steps(record: Found, copy: int, *, with_payload: bool) -> list[Step]:
    event, place = record.event, _place(record.ref)
    note = None if copy == 1 else f"copy {copy}, without effect"
    match event:
        case RequestAccepted() if record.ref.topic in (REQUESTS, BACKGROUND):
            facts = _accepted(event, with_payload=with_payload)
            facts["appended_at_ms"] = record.appended_at_ms
            return [Step(event.accepted_at_ms, "accepted", place, facts, note)]
        case RequestAccepted():
            # A request may wait more than once; every record here is a wait of its own.
            facts = {"not_before_ms": event.not_before_ms}
            return [Step(record.appended_at_ms, "deferred", place, facts)]
        case RequestAdmitted():
            return [Step(record.appended_at_ms, "admitted", place, _admitted(event), note)]
        case RequestFinished():
            return _finished(record, event, note, with_payload=with_payload)
        case AttemptAdjusted():
            return [Step(event.adjusted_at_ms, "adjusted", place, _adjusted(event), note)]
        case UsageRecorded():
            return [Step(record.appended_at_ms, "usage", place, _usage(event), note)]
        case AuditRecorded():
            facts = {"action": event.action, "actor": event.actor, "detail": _detail(event)}
            return [Step(event.at_ms, "audit", place, facts, note)]
        case _:
            return []


def _embedded(records: Iterable[Found], *, with_payload: bool) -> list[Step]:
    """The request as its admission carries it, for when its own record is gone."""
    for record in records:
        if not isinstance(record.event, RequestAdmitted):
            continue
        try:
            accepted = decode_as(record.event.accepted, RequestAccepted)
        except UNDECODABLE:
            continue
        place = _place(record.event.accepted_ref)
        facts = _accepted(accepted, with_payload=with_payload)
        body = ", without its body" if is_elsewhere(accepted) else ""
        note = f"as admission carries it{body}"
        return [Step(accepted.accepted_at_ms, "accepted", place, facts, note)]
    return []


def _accepted(event: RequestAccepted, *, with_payload: bool) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "org": event.org,
        "project": event.project,
        "key_id": event.key_id,
        "user": event.user,
        "route": event.route,
        "model": event.model,
        "stream": event.stream,
        "input_tokens_bound": event.input_tokens_bound,
        "output_tokens_bound": event.output_tokens_bound,
        "reach": msgspec.to_builtins(event.reach),
        "deadline_ms": event.deadline_ms,
        "config_offset": event.config_offset,
        "payload_bytes": len(event.payload),
        **_line(event),
    }
    return facts | ({"payload": _text(event.payload)} if with_payload else {})


def _admitted(event: RequestAdmitted) -> dict[str, Any]:
    return {
        "holds": msgspec.to_builtins(event.holds),
        "price": msgspec.to_builtins(event.price),
        "rate_status": msgspec.to_builtins(rates_of(event)),
        "config_offset": event.config_offset,
        "decided_on": _place(event.accepted_ref),
    }


def _finished(
    record: Found, event: RequestFinished, note: str | None, *, with_payload: bool
) -> list[Step]:
    """The outcome, and before it the calls it lists; a copy lists the same calls again."""
    place = _place(record.ref)
    facts: dict[str, Any] = {
        "appended_at_ms": record.appended_at_ms,
        "status": event.status,
        "http_status": event.http_status,
        "error_code": event.error_code,
        "error_message": event.error_message,
        "denial": msgspec.to_builtins(event.denial),
        "said": msgspec.to_builtins(event.said),
        "fence": event.fence,
        "bookings": _bookings(event.bookings),
        "result_bytes": len(event.result or b""),
        "result_at": event.result_ref and _place(event.result_ref),
        "parents": [_place(parent) for parent in event.parents],
        **_line(event),
    }
    if with_payload and event.result is not None:
        facts["result"] = _text(event.result)
    outcome = Step(event.finished_at_ms, "finished", place, facts, note)
    attempts = [] if note else event.attempts
    calls = [Step(a.started_at_ms, "attempt", place, _attempt(a)) for a in attempts]
    return [*calls, outcome]


def _adjusted(event: AttemptAdjusted) -> dict[str, Any]:
    facts = {"revision": event.revision, "reason": event.reason}
    return facts | _attempt(event.delta) | {"bookings": _bookings(event.bookings)}


def _usage(event: UsageRecorded) -> dict[str, Any]:
    names = ("usage_id", "revision", *_ATTEMPT_FACTS)
    said = (name for name in names if hasattr(event, name))
    facts = {name: msgspec.to_builtins(getattr(event, name)) for name in said}
    return facts | {"outcome": _place(event.outcome), **_line(event)}


def _line(about: Attributed) -> dict[str, Any]:
    """The line of a batch that it is; nothing where it is none."""
    if about.batch_id is None:
        return {}
    return {"batch_id": about.batch_id, "batch_line": about.batch_line}


def _attempt(attempt: Attempt) -> dict[str, Any]:
    return {name: msgspec.to_builtins(getattr(attempt, name)) for name in _ATTEMPT_FACTS}


def _bookings(bookings: list[Booking]) -> Any:
    return msgspec.to_builtins(bookings)


def _detail(event: AuditRecorded) -> Any:
    """What the event says, without the other requests that it lists."""
    detail = _json(event.detail)
    if isinstance(detail, dict):
        detail.pop("request_ids", None)
    return detail


def _place(ref: RecordRef) -> str:
    return f"{ref.topic}-{ref.partition}@{ref.offset}"


def _json(text: str) -> Any:
    """The value, or the text itself where it is not JSON."""
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return text


def _text(raw: bytes) -> str:
    return raw.decode(errors="replace")
