"""Validates requests: what is asked for, within which time, under which key. Pure.

Headers and bytes in, a value out: whatever surface they came by, and before anything is sent anywhere. A
refusal leaves no trace in log or ledger.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from ingress.apis.parsed_request import ParsedRequest, RequestParser, invalid
from ingress.auth.caller import Caller
from ingress.auth.restrictions import refuse_scope
from ingress.gatekeeper.final_verdicts import Asked
from ingress.http.event_ids import EventId
from ingress.http.refusals import Refusal
from ingress.http.request import (
    RESUMABLE,
    Preference,
    deadline_ms_of,
    header_key,
    preference_of,
    read_object,
    refuse_media,
    resumed_of,
    traceparent_of,
)
from ingress.requests.idempotency import IdempotencyKey, idempotency_key
from ingress.requests.job_document import JobFacts
from schemas.config_state import Snapshot
from schemas.errors import ErrorCode
from schemas.events import RequestAccepted
from schemas.operations import JOBS, Operation
from schemas.reports import Excess
from schemas.times import PRODUCE_WITHIN_MS

PAYLOAD_BYTES_MAX: Final = 4 * 1024 * 1024 + 64 * 1024
"""Writing numbers out can lengthen a body; this keeps every record below the topic's limit."""


class Circumstances(msgspec.Struct, frozen=True):
    """What a client says beside the body: how long it has, its key, what it prefers, its trace."""

    timeout_ms: int
    stream_timeout_ms: int
    """The same of a stream, which shows that it moves: unless its client says otherwise it may last the longest."""
    key: str | None
    preference: Preference
    traceparent: bytes | None
    resumed: EventId | None = None
    is_resumable: bool = False
    """Whether it asks that its stream be kept, and run on when its connection breaks."""


class ValidatedRequest(msgspec.Struct, frozen=True):
    """A request that passed all checks of ingress; nothing was sent anywhere yet."""

    operation: Operation
    caller: Caller
    parsed: ParsedRequest
    received_at_ms: int
    deadline_ms: int
    traceparent: bytes | None
    key: IdempotencyKey | None
    preference: Preference
    is_listed: bool = True
    """Whether it stands among the jobs of its organization where it runs as one; a line of a batch does not."""
    resumed: EventId | None = None
    """The event after which a stream that was begun before is to go on."""
    is_resumable: bool = False

    @property
    def is_background(self) -> bool:
        """Whether it runs as a job, whose client does not wait for its answer."""
        if self.operation.keeps_result:
            return True
        return self.preference.respond_async and not self.parsed.call.stream

    @property
    def may_join(self) -> bool:
        """Whether its client waits when the holder of its key is still running."""
        return self.is_background or self.preference.respond_async or self.preference.wait_s != 0


def read_circumstances(
    headers: Mapping[bytes, bytes], default_s: float, max_s: float
) -> Circumstances | Refusal:
    """What the headers say; ``default_s`` and ``max_s`` bound the deadline."""
    refusal = refuse_media(headers)
    if refusal is not None:
        return refusal
    timeout_ms = deadline_ms_of(headers, default_s, max_s)
    stream_timeout_ms = deadline_ms_of(headers, max_s, max_s)
    if isinstance(timeout_ms, Refusal):
        return timeout_ms
    assert not isinstance(stream_timeout_ms, Refusal), "it is the same header"
    key = header_key(headers)
    if isinstance(key, Refusal):
        return key
    resumed = resumed_of(headers)
    if isinstance(resumed, Refusal):
        return resumed
    preference, trace = preference_of(headers), traceparent_of(headers)
    is_resumable = headers.get(RESUMABLE) == b"1"
    return Circumstances(
        timeout_ms, stream_timeout_ms, key, preference, trace, resumed, is_resumable
    )


def validate(
    operation: Operation,
    parse: RequestParser,
    caller: Caller,
    said: Circumstances,
    body: bytes,
    snapshot: Snapshot,
    now_ms: int,
) -> ValidatedRequest | Refusal:
    """Check a body that was read at ``now_ms``, when its time begins: it may take longer to arrive than
    the log may take to acknowledge it."""
    fields = read_object(body)
    if isinstance(fields, Refusal):
        return fields
    if fields.get("stream") and not operation.streams:
        return invalid("stream", f"is not possible on {operation.path}")
    parsed = parse(fields, snapshot, caller)
    if isinstance(parsed, Refusal):
        return parsed
    if len(parsed.call.payload) > PAYLOAD_BYTES_MAX:
        return Refusal(ErrorCode.BODY_TOO_LARGE, "The body is too large when written out.")
    if said.resumed is not None and not parsed.call.stream:
        return invalid("Last-Event-ID", "resumes streams: the body must say stream, as it did")
    timeout_ms = said.stream_timeout_ms if parsed.call.stream else said.timeout_ms
    key = said.key or parsed.client_key
    request = ValidatedRequest(
        operation=operation,
        caller=caller,
        parsed=parsed,
        received_at_ms=now_ms,
        deadline_ms=now_ms + (parsed.ttl_ms or timeout_ms),
        traceparent=said.traceparent,
        key=None
        if key is None
        else idempotency_key(key, caller.org, operation.name, fields, caller.owner),
        preference=said.preference,
        resumed=said.resumed,
        is_resumable=said.is_resumable and parsed.call.stream,
    )
    # Whoever may not fetch a job has nothing of the promise of one.
    return (refuse_scope(caller, JOBS.scope) if request.is_background else None) or request


def with_excess(request: ValidatedRequest, excess: Mapping[str, Excess]) -> ValidatedRequest:
    """The request, holding what backends of its model lately used beyond bounds as well."""
    more = excess.get(request.parsed.model)
    if more is None:
        return request
    call = request.parsed.call
    call = msgspec.structs.replace(
        call,
        input_tokens_bound=call.input_tokens_bound + more.input_tokens,
        output_tokens_bound=call.output_tokens_bound + more.output_tokens,
    )
    return msgspec.structs.replace(
        request, parsed=msgspec.structs.replace(request.parsed, call=call)
    )


def accepted_event(
    request: ValidatedRequest, request_id: str, config_offset: int, reply_to: str | None
) -> RequestAccepted:
    """The event with which responsibility for the request is taken; its answer goes to ``reply_to``."""
    caller, call, key = request.caller, request.parsed.call, request.key
    return RequestAccepted(
        request_id=request_id,
        org=caller.org,
        project=caller.project,
        key_id=caller.key_id,
        user=caller.user,
        route=request.operation.name,
        model=request.parsed.model,
        stream=call.stream,
        include_usage=call.include_usage,
        payload=call.payload,
        input_tokens_bound=call.input_tokens_bound,
        output_tokens_bound=call.output_tokens_bound,
        accepted_at_ms=request.received_at_ms,
        deadline_ms=request.deadline_ms,
        produce_by_ms=request.received_at_ms + PRODUCE_WITHIN_MS,
        config_offset=config_offset,
        reply_to=reply_to,
        idempotency_hash=None if key is None else key.key_hash,
        keep_result=key is not None or request.is_background or request.is_resumable,
        background=request.is_background,
        fingerprint=None if key is None else key.fingerprint,
        job=_facts(request) if request.is_background and request.is_listed else None,
        reach=call.reach,
    )


def _facts(request: ValidatedRequest) -> str:
    return JobFacts(request.parsed.model, request.deadline_ms, request.caller.owner).encoded()


def asked_of(request: ValidatedRequest, config_offset: int) -> Asked:
    """What the request asks of the ledger, as the configuration stands."""
    call = request.parsed.call
    return Asked(
        call.input_tokens_bound,
        call.output_tokens_bound,
        len(call.payload),
        config_offset=config_offset,
        received_at_ms=request.received_at_ms,
        reach=call.reach,
    )
