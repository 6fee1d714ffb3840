"""What an organization is told of by a webhook: messages with stable ids, whose body is made once. Pure.

A body has ``type``, ``timestamp`` and ``data`` (Standard Webhooks 1.0.0, payload structure), and beside them ``id``, ``object``
and ``created_at``, by which OpenAI's SDKs read events; types of responses are OpenAI's. It says what happened and where to read
the rest: results and prompts leave the gateway only to who has a key.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from schemas.errors import ERRORS, ErrorCode
from schemas.events import AuditRecorded, RequestFinished, WebhookMessage
from schemas.headers import event_time
from schemas.ids import made_at_ms
from schemas.job_ends import end_of, usage_of
from schemas.job_facts import read_facts
from schemas.money import usd
from schemas.operations import RESPONSES
from schemas.responses import response_id
from schemas.webhooks import EVENT_KINDS, EventKind, Webhooks

__all__ = ["THRESHOLD", "job_message", "kind_of", "new_message", "threshold_message"]

THRESHOLD: Final = "threshold"
"""The action of an audit event that a threshold was reached."""
_ENDED_AS: Final[Mapping[EventKind, Mapping[str, str]]] = {
    "job": {"cancelled": "cancelled", "expired": "expired"},
    "response": {"cancelled": "cancelled"},
}
"""Ends without an answer that have a status of their own; all others failed."""
_USAGE_NAMES: Final[Mapping[EventKind, tuple[str, str]]] = {
    "job": ("prompt_tokens", "completion_tokens"),
    "response": ("input_tokens", "output_tokens"),
}
_DIGITS: Final = 32


def new_message(
    org: str,
    happened: str,
    subject: str,
    at_ms: int,
    data: Mapping[str, Any],
    url: str | None = None,
) -> WebhookMessage:
    """What tells an organization that something happened to a subject, such as ``job.completed`` to a request's id.

    Its id follows from both, so that whoever makes it again makes the same. Whoever produces it (``webhook_record``) asks
    ``Webhooks.tells`` first, unless it has an address of its own.
    """
    digest = hashlib.sha256(f"{happened}:{org}:{subject}".encode()).hexdigest()[:_DIGITS]
    message_id = f"msg_{digest}"
    body = {
        "id": message_id,
        "object": "event",
        "type": happened,
        "created_at": at_ms // 1000,
        "timestamp": event_time(at_ms),
        "data": data,
    }
    return WebhookMessage(
        message_id=message_id,
        org=org,
        type=happened,
        url=url,
        body=msgspec.json.encode(body),
        happened_at_ms=at_ms,
    )


def kind_of(message_type: str) -> EventKind | None:
    """The kind of an event's type; ``None`` for one that is not known here."""
    kind = message_type.partition(".")[0]
    return next((each for each in EVENT_KINDS if each == kind), None)


def job_message(outcome: RequestFinished, webhooks: Webhooks) -> WebhookMessage | None:
    """What is told of the end of a job, which may be that of a response; ``None`` of other requests, and where nobody
    wants to hear of it."""
    if outcome.job is None:
        return None
    facts = read_facts(outcome.job)
    url = None if facts is None else facts.webhook_url
    kind: EventKind = "response" if outcome.route == RESPONSES.name else "job"
    if url is None and not webhooks.tells(kind):
        return None
    status, code = _reads_as(outcome, kind)
    data = {
        **_ids(outcome, kind),
        "object": kind,
        "status": status,
        "created_at": made_at_ms(outcome.request_id) // 1000,
        "ended_at": outcome.finished_at_ms // 1000,
        "model": outcome.model,
        **_end_of(outcome, kind, code),
    }
    happened, at_ms = f"{kind}.{status}", outcome.finished_at_ms
    return new_message(outcome.org, happened, outcome.request_id, at_ms, data, url)


def _ids(outcome: RequestFinished, kind: EventKind) -> dict[str, str]:
    """What it is found by; a response is listed as a job, too."""
    if kind == "job":
        return {"id": outcome.request_id}
    return {"id": response_id(outcome.request_id), "job_id": outcome.request_id}


def _reads_as(outcome: RequestFinished, kind: EventKind) -> tuple[str, str | None]:
    """Its status as whoever fetches it reads it, and the code of its error."""
    if outcome.status != "completed":
        return _ENDED_AS[kind].get(outcome.status, "failed"), outcome.error_code
    lost = end_of(outcome).error_code
    if lost is not None or outcome.response_status == "failed":
        return "failed", lost or ErrorCode.UPSTREAM_ERROR
    return outcome.response_status or "completed", None


def _end_of(outcome: RequestFinished, kind: EventKind, code: str | None) -> dict[str, Any]:
    """Error, usage and cost under the names that a job or a response has them by."""
    told: dict[str, Any] = {}
    if code is not None and code == outcome.error_code:
        message, http_status = outcome.error_message or "", outcome.http_status
        told["error"] = {"code": code, "message": message, "status": http_status}
    elif code is not None:
        spec = ERRORS[ErrorCode(code)]
        told["error"] = {"code": code, "message": spec.title, "status": spec.status}
    usage = usage_of(outcome.attempts)
    if usage is not None:
        came, went = _USAGE_NAMES[kind]
        told["usage"] = {
            came: usage.input_tokens,
            went: usage.output_tokens,
            "total_tokens": usage.input_tokens + usage.output_tokens,
        }
        cost = usage.cost_nano_usd
        told["cost_usd"] = None if cost is None else usd(cost)
        told["backend"] = outcome.attempts[-1].backend
    return told


def threshold_message(event: AuditRecorded, webhooks: Webhooks) -> WebhookMessage | None:
    """What is told of a threshold that was reached; ``None`` of other events, and where nobody wants to hear of it."""
    if event.action != THRESHOLD or not webhooks.tells("threshold"):
        return None
    try:
        facts = msgspec.json.decode(event.detail, type=dict[str, Any])
    except msgspec.DecodeError:
        return None
    data = {"object": "threshold", "org": event.org, **facts}
    return new_message(event.org, "threshold.reached", event.audit_id, event.at_ms, data)
