"""Validates requests: what is asked for, within which time, under which key. Pure.

Headers and bytes in, a value out: whatever surface they came by, and before anything is sent anywhere. A
refusal leaves no trace in log or ledger.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from ingress.apis.flex import as_flex
from ingress.apis.parsed_request import ParsedRequest, RequestParser, invalid
from ingress.auth.api_key import runs_as_flex
from ingress.auth.caller import Caller
from ingress.auth.restrictions import refuse_scope
from ingress.gatekeeper.final_verdicts import Asked
from ingress.http.event_ids import EventId
from ingress.http.refusals import Refusal
from ingress.http.request import (
    RESUMABLE,
    TIMEOUT_HEADER,
    WEBHOOK_URL,
    Preference,
    betas_of,
    deadline_ms_of,
    header_key,
    preference_of,
    read_object,
    refuse_media,
    resumed_of,
    traceparent_of,
    webhook_url_of,
)
from ingress.requests.idempotency import IdempotencyKey, idempotency_key
from ingress.requests.webhook_address import refuse_address
from schemas.config_state import Snapshot
from schemas.errors import ErrorCode
from schemas.events import RequestAccepted
from schemas.job_facts import JobFacts
from schemas.messages import BETAS
from schemas.operations import JOBS, Operation
from schemas.reports import Excess
from schemas.times import FULL, PRODUCE_WITHIN_MS

_BETAS: Final = b"anthropic-beta"
FLEX_S: Final = (FULL.flex_deadline_default_ms / 1000, FULL.flex_deadline_max_ms / 1000)
"""Seconds that a flex request has: where it states nothing, and at most."""
PAYLOAD_BYTES_MAX: Final = 4 * 1024 * 1024 + 64 * 1024
"""Writing numbers out can lengthen a body; this keeps every record below the topic's limit."""


class Circumstances(msgspec.Struct, frozen=True):
    """What a client says beside the body: how long it has, its key, what it prefers, its trace."""

    timeout_ms: int
    stream_timeout_ms: int
    """The same of a stream, which shows that it moves, and of what runs in the background: unless its client says
    otherwise it may last the longest."""
    key: str | None
    preference: Preference
    traceparent: bytes | None
    webhook_url: str | None = None
    """Where its end shall be told, if it runs as a job."""
    resumed: EventId | None = None
    is_resumable: bool = False
    """Whether it asks that its stream be kept, and run on when its connection breaks."""
    betas: tuple[str, ...] = ()
    """Names of betas that it asks for, which only Anthropic's API has."""
    asked_timeout: bytes | None = None
    """The time that it states, as it was sent: a flex request has other bounds."""


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
    webhook_url: str | None = None
    is_listed: bool = True
    """Whether it stands among the jobs of its organization where it runs as one; a line of a batch does not."""
    batch_id: str | None = None
    """The batch that it is a line of, and which line."""
    batch_line: int | None = None
    resumed: EventId | None = None
    """The event after which a stream that was begun before is to go on."""
    is_resumable: bool = False
    is_flex: bool = False
    """Whether it waits for room: it runs as a job, whether or not its client waits for the answer."""

    @property
    def is_answered_at_once(self) -> bool:
        """Whether its client gets a promise, however soon the answer may come."""
        return self.operation.keeps_result or (self.parsed.is_background and not self.is_followed)

    @property
    def is_followed(self) -> bool:
        """Whether it runs as a job, which its events tell: its client may leave, and come back to them."""
        return self.parsed.is_background and self.parsed.call.stream

    @property
    def is_promised(self) -> bool:
        """Whether its client does not wait for the answer, but for the promise of a job."""
        if self.is_answered_at_once:
            return True
        return self.preference.respond_async and not self.parsed.call.stream

    @property
    def is_background(self) -> bool:
        """Whether it runs as a job."""
        return self.is_flex or self.is_promised or self.parsed.is_background

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
    webhook_url = webhook_url_of(headers)
    if isinstance(webhook_url, Refusal):
        return webhook_url
    betas = headers.get(_BETAS)
    return Circumstances(
        timeout_ms,
        stream_timeout_ms,
        key,
        preference_of(headers),
        traceparent_of(headers),
        resumed=resumed,
        is_resumable=headers.get(RESUMABLE) == b"1",
        betas=() if betas is None else betas_of(betas),
        asked_timeout=headers.get(TIMEOUT_HEADER),
        webhook_url=webhook_url,
    )


def validate(
    operation: Operation,
    parse: RequestParser,
    caller: Caller,
    said: Circumstances,
    body: bytes,
    snapshot: Snapshot,
    now_ms: int,
    flex_s: tuple[float, float] | None = FLEX_S,
) -> ValidatedRequest | Refusal:
    """Check a body that was read at ``now_ms``, when its time begins: it may take longer to arrive than
    the log may take to acknowledge it. ``flex_s``: how long a flex request has by default, and at most; ``None`` where none is
    made flex."""
    fields = read_object(body)
    if isinstance(fields, Refusal):
        return fields
    if fields.get("stream") and not operation.streams:
        return invalid("stream", f"is not possible on {operation.path}")
    if said.betas and operation.surface == "anthropic":
        fields[BETAS] = list(said.betas)
    parsed = parse(fields, snapshot, caller)
    if isinstance(parsed, Refusal):
        return parsed
    is_flex = flex_s is not None and runs_as_flex(fields, snapshot, caller)
    if is_flex:
        parsed = as_flex(operation, parsed, snapshot, now_ms)
    if len(parsed.call.payload) > PAYLOAD_BYTES_MAX:
        return Refusal(ErrorCode.BODY_TOO_LARGE, "The body is too large when written out.")
    if said.resumed is not None and not parsed.call.stream:
        return invalid("Last-Event-ID", "resumes streams: the body must say stream, as it did")
    is_long = parsed.call.stream or parsed.is_background
    timeout_ms = said.stream_timeout_ms if is_long else said.timeout_ms
    if is_flex and flex_s is not None:
        timeout_ms = _flex_timeout_ms(said, *flex_s)
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
        webhook_url=said.webhook_url,
        resumed=said.resumed,
        is_resumable=said.is_resumable and parsed.call.stream,
        is_flex=is_flex,
    )
    if request.webhook_url is not None and (refusal := _refuse_webhook(request, snapshot)):
        return refusal
    # Whoever may not fetch a job has nothing of the promise of one.
    is_fetched = request.is_promised or request.is_followed
    return (refuse_scope(caller, JOBS.scope) if is_fetched else None) or request


def _flex_timeout_ms(said: Circumstances, default_s: float, max_s: float) -> int:
    headers = {} if said.asked_timeout is None else {TIMEOUT_HEADER: said.asked_timeout}
    timeout_ms = deadline_ms_of(headers, default_s, max_s)
    assert not isinstance(timeout_ms, Refusal), "it was read before"
    return timeout_ms


def _refuse_webhook(request: ValidatedRequest, snapshot: Snapshot) -> Refusal | None:
    """Why the end of the request is not told where its client wishes."""
    assert request.webhook_url is not None
    if not request.is_background:
        why = "is for what runs as a job: send Prefer: respond-async as well, or background: true"
        return invalid(WEBHOOK_URL, why)
    return refuse_address(request.webhook_url, request.caller.org, snapshot)


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
        shown=request.parsed.shown if request.parsed.is_stored else None,
        batch_id=request.batch_id,
        batch_line=request.batch_line,
    )


def _facts(request: ValidatedRequest) -> str:
    return job_facts(request, request.deadline_ms, request.webhook_url).encoded()


def job_facts(
    request: ValidatedRequest, deadline_ms: int, webhook_url: str | None = None
) -> JobFacts:
    """What is kept of a request that runs as a job."""
    events_of = request.operation.name if request.is_followed else None
    return JobFacts(request.parsed.model, deadline_ms, request.caller.owner, webhook_url, events_of)


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
