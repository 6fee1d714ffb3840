"""What organizations are told by webhooks, as OpenAPI 3.1 has it: calls that the gateway makes."""

from __future__ import annotations

from typing import Any, Final

from schemas.webhook_messages import ENDS
from schemas.webhooks import EventKind

__all__ = ["webhook_events"]

_TEXT: Final[dict[str, Any]] = {"type": "string"}
_SECONDS: Final[dict[str, Any]] = {"type": "integer", "description": "Unix seconds."}
_HEADERS: Final = {
    "webhook-id": "The id of the message, in each of its tries.",
    "webhook-timestamp": "When this try was made, in Unix seconds.",
    "webhook-signature": "Signatures of Standard Webhooks (`v1`), one of each secret in force.",
}


def webhook_events() -> dict[str, Any]:
    """Each kind of event, by its name."""
    return {kind: {"post": _call(kind, ends)} for kind, ends in ENDS.items()}


def _call(kind: EventKind, ends: tuple[str, ...]) -> dict[str, Any]:
    types = [f"{kind}.{end}" for end in ends]
    return {
        "operationId": f"webhooks.{kind}",
        "summary": f"Told to the address of an organization: {', '.join(types)}.",
        "tags": ["webhooks"],
        "security": [],
        "parameters": [
            {
                "name": name,
                "in": "header",
                "description": meaning,
                "required": True,
                "schema": _TEXT,
            }
            for name, meaning in _HEADERS.items()
        ],
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": _event(kind, types)}},
        },
        "responses": {"2XX": {"description": "It is taken. All else is tried again; 410 ends it."}},
    }


def _event(kind: EventKind, types: list[str]) -> dict[str, Any]:
    has_id = kind != "threshold"
    about = {"object": {"const": kind}, **({"id": _TEXT} if has_id else {})}
    members = {
        "id": {"type": "string", "description": "As in `webhook-id`."},
        "object": {"const": "event"},
        "type": {"enum": types},
        "created_at": _SECONDS,
        "timestamp": {"type": "string", "format": "date-time"},
        "data": {"type": "object", "required": list(about), "properties": about},
    }
    return {"type": "object", "required": list(members), "properties": members}
