"""The event with which ingress takes responsibility for a request. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from ingress.apis.parsed_request import ParsedRequest
from ingress.auth.api_key import Caller
from schemas.events import RequestAccepted

PRODUCE_WITHIN_MS: Final = 10_000
"""Without an acknowledgement by then the client is told 503; a record appended later never runs."""


@dataclass(frozen=True, slots=True)
class Reception:
    """The circumstances of a request: its id, its route, its times, where its answer goes.

    ``keep_result`` makes the answer one that can be fetched for a day.
    """

    request_id: str
    route: str
    accepted_at_ms: int
    deadline_ms: int
    config_offset: int
    reply_to: str | None
    idempotency_hash: str | None
    keep_result: bool


def accept(parsed: ParsedRequest, caller: Caller, reception: Reception) -> RequestAccepted:
    """The event of an parsed."""
    return RequestAccepted(
        request_id=reception.request_id,
        org=caller.org,
        project=caller.project,
        key_id=caller.key_id,
        user=caller.user,
        route=reception.route,
        model=parsed.model,
        stream=parsed.call.stream,
        include_usage=parsed.call.include_usage,
        payload=parsed.call.payload,
        input_tokens_bound=parsed.call.input_tokens_bound,
        output_tokens_bound=parsed.call.output_tokens_bound,
        accepted_at_ms=reception.accepted_at_ms,
        deadline_ms=reception.deadline_ms,
        produce_by_ms=reception.accepted_at_ms + PRODUCE_WITHIN_MS,
        config_offset=reception.config_offset,
        reply_to=reception.reply_to,
        idempotency_hash=reception.idempotency_hash,
        keep_result=reception.keep_result,
    )
