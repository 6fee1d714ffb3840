"""Takes requests in: who calls, what is asked for, within which time, under which key.

Everything is checked before anything is sent anywhere; a refusal leaves no trace in log or ledger.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from starlette.types import Receive

from ingress.apis.bindings import parse_body
from ingress.apis.parsed_request import ParsedRequest
from ingress.auth.api_key import Caller
from ingress.gatekeeper.body_budget import BodyHold
from ingress.gatekeeper.final_verdicts import Asked
from ingress.http.prefer import Preference, preference_of
from ingress.http.refusals import Refusal
from ingress.http.request_headers import (
    announced_bytes,
    deadline_ms_of,
    refuse_media,
    traceparent_of,
)
from ingress.http.responses import read_body
from ingress.http.strict_json import read_object
from ingress.requests.accepted import Reception, accept
from ingress.requests.idempotency import IdempotencyKey, header_key, idempotency_key
from ingress.requests.intake import Entered, Intake
from ingress.requests.publisher import PAYLOAD_BYTES_MAX
from schemas.errors import ErrorCode
from schemas.events import RequestAccepted
from schemas.operations import Operation
from schemas.outgoing import Headers, accepted_headers

_SCOUT_LOOK_S: Final = 0.02


@dataclass(frozen=True, slots=True)
class ValidatedRequest:
    """A request that passed all checks of ingress."""

    caller: Caller
    parsed: ParsedRequest
    received_at_ms: int
    deadline_ms: int
    traceparent: bytes | None
    key: IdempotencyKey | None
    preference: Preference
    room: BodyHold

    def without_payload(self) -> ValidatedRequest:
        """The same, once its body is in the log: whoever waits for an answer holds none."""
        call = replace(self.parsed.call, payload=b"")
        return replace(self, parsed=replace(self.parsed, call=call))

    @property
    def is_background(self) -> bool:
        """Whether it runs as a job, whose client does not wait for its answer."""
        return self.preference.respond_async and not self.parsed.call.stream


async def validate(
    intake: Intake, operation: Operation, entered: Entered, receive: Receive
) -> ValidatedRequest | Refusal | None:
    """Check a request; ``None`` when its client left meanwhile."""
    headers, caller = entered.headers, entered.caller
    refusal = refuse_media(headers)
    if refusal is not None:
        return refusal
    settings = intake.settings
    timeout_ms = deadline_ms_of(headers, *settings.deadlines_s)
    if isinstance(timeout_ms, Refusal):
        return timeout_ms
    key = header_key(headers)
    if isinstance(key, Refusal):
        return key
    room = await intake.bodies.take(caller.org, _most_bytes(headers, settings.max_body_bytes))
    if isinstance(room, Refusal):
        return room
    entered.room = room
    body = await read_body(receive, headers, settings.max_body_bytes)
    if body is None or isinstance(body, Refusal):
        return body
    room.shrink(len(body))
    if announced_bytes(headers) is None:
        intake.gate.count_body(caller, len(body))
    fields = read_object(body)
    if isinstance(fields, Refusal):
        return fields
    parsed = parse_body(operation, fields, intake.config.snapshot, caller)
    if isinstance(parsed, Refusal):
        return parsed
    if len(parsed.call.payload) > PAYLOAD_BYTES_MAX:
        return Refusal(ErrorCode.BODY_TOO_LARGE, "The body is too large when written out.")
    # Time runs from here, because a body may take longer to arrive than the log may take to ack.
    now_ms = intake.clock.now_ms()
    name = key or parsed.client_key
    return ValidatedRequest(
        caller=caller,
        parsed=parsed,
        received_at_ms=now_ms,
        deadline_ms=now_ms + (parsed.ttl_ms or timeout_ms),
        traceparent=traceparent_of(headers),
        key=None if name is None else idempotency_key(name, caller.org, operation.name, fields),
        preference=preference_of(headers),
        room=room,
    )


def _most_bytes(headers: Mapping[bytes, bytes], max_bytes: int) -> int:
    """How large the body may get: as announced, or as any may when it comes in chunks. One that is
    announced as too large is refused anyway."""
    announced = announced_bytes(headers)
    if announced is None:
        return max_bytes if b"transfer-encoding" in headers else 0
    return announced if announced <= max_bytes else 0


@dataclass(frozen=True, slots=True)
class Way:
    """How an answer travels: to which channel, and whether it is kept to be fetched."""

    reply_to: str | None
    keep_result: bool


def event_of(
    intake: Intake, route: str, request_id: str, taken: ValidatedRequest, way: Way
) -> tuple[RequestAccepted, Headers]:
    """The event with which responsibility for the request is taken, and its record's headers."""
    reception = Reception(
        request_id=request_id,
        route=route,
        accepted_at_ms=taken.received_at_ms,
        deadline_ms=taken.deadline_ms,
        config_offset=intake.config.snapshot.offset,
        reply_to=way.reply_to,
        idempotency_hash=taken.key.key_hash if taken.key is not None else None,
        keep_result=way.keep_result,
    )
    accepted = accept(taken.parsed, taken.caller, reception)
    return accepted, accepted_headers(accepted, taken.traceparent)


def asked_of(intake: Intake, taken: ValidatedRequest) -> Asked:
    """What the request asks of the ledger, as the configuration stands."""
    call, offset = taken.parsed.call, intake.config.snapshot.offset
    bounds = call.input_tokens_bound, call.output_tokens_bound
    return Asked(*bounds, config_offset=offset, received_at_ms=taken.received_at_ms)


async def refuse_before_log(
    intake: Intake, taken: ValidatedRequest, request_id: str, *, is_background: bool
) -> Refusal | None:
    """What stands against a request that is to be produced; its key is free again then."""
    caller, model, asked = taken.caller, taken.parsed.model, asked_of(intake, taken)
    while intake.gate.must_wait(caller, intake.config.snapshot, model, asked):
        await asyncio.sleep(_SCOUT_LOOK_S)
        asked = asked_of(intake, taken)
    refusal = intake.gate.refuse(caller, model, asked, request_id, is_background=is_background)
    if refusal is not None and taken.key is not None:
        await intake.claims.release(taken.caller.org, taken.key, request_id)
    return refusal
