"""Messages are a fold of the log: of the outcomes of jobs, and of the audit events that tell thresholds. Pure.

Most records are of organizations without webhooks: they cost a look at their key.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from schemas.codec import MalformedRecord, decode
from schemas.config_state import Snapshot
from schemas.events import AuditRecorded, RequestFinished, WebhookMessage
from schemas.topics import AUDIT, OUTCOMES
from schemas.webhook_messages import THRESHOLD, job_message, threshold_message
from schemas.webhooks import Webhooks

__all__ = ["FOLDED", "message_of", "told_organizations"]

FOLDED: Final = (OUTCOMES, AUDIT)
"""The topics that messages are made of."""
OLD_MS: Final = 24 * 3_600_000
"""What happened longer ago is told nobody any more: whoever reads again from the beginning tells a day at most."""
_THRESHOLD: Final = THRESHOLD.encode()


def told_organizations(config: Snapshot) -> Mapping[bytes, Webhooks]:
    """Those that have webhooks, by the key of their records."""
    return {
        name.encode(): org.webhooks
        for name, org in config.organizations.items()
        if org.webhooks is not None
    }


def message_of(
    topic: str, value: bytes | None, webhooks: Webhooks, now_ms: int
) -> WebhookMessage | None:
    """The message that a record of an organization's makes; ``None`` where there is nothing to tell.

    Raises ``UnknownSchema``: a newer version reads it.
    """
    if topic == AUDIT and (value is None or _THRESHOLD not in value):
        return None
    try:
        event = decode(value)
    except MalformedRecord:
        return None  # Whose topic it is buries it.
    message = None
    if isinstance(event, RequestFinished):
        message = job_message(event, webhooks)
    elif isinstance(event, AuditRecorded):
        message = threshold_message(event, webhooks)
    return message if message is not None and now_ms - message.happened_at_ms < OLD_MS else None
