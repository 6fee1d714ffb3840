"""When a message is tried again, and where it waits until then: ten tries within a day. Pure.

A pause that no topic has is passed through the longest that fits, again and again: each topic stays in the order of time.
"""

from __future__ import annotations

from typing import Final

import msgspec

from schemas.events import WebhookMessage
from schemas.topics import WEBHOOK_PAUSES_MS

__all__ = [
    "BUSY",
    "FAILING",
    "PAUSES_MS",
    "after_busy",
    "after_failure",
    "is_early",
    "looked_at_ms",
    "tier_of",
]

_MINUTE_MS: Final = 60_000
_HOUR_MS: Final = 60 * _MINUTE_MS
PAUSES_MS: Final = (
    5_000,
    30_000,
    2 * _MINUTE_MS,
    5 * _MINUTE_MS,
    30 * _MINUTE_MS,
    2 * _HOUR_MS,
    4 * _HOUR_MS,
    7 * _HOUR_MS,
    10 * _HOUR_MS,
)
"""Between ten tries; together less than 24 hours."""
BUSY: Final = "as many deliveries are under way as the organization may have"
FAILING: Final = "its receiver fails, and is tried with one message at a time"
_BUSY_MS: Final = tuple(WEBHOOK_PAUSES_MS.values())[:-1]
_SOON_MS: Final = 1_000
"""What is left of a pause is waited for where it stands."""


def after_failure(
    message: WebhookMessage, answer: str, now_ms: int, *, was_sent: bool
) -> WebhookMessage | None:
    """The message as it waits for its next try; ``None`` when it has had all."""
    if message.pauses >= len(PAUSES_MS):
        return None
    return msgspec.structs.replace(
        message,
        pauses=message.pauses + 1,
        tries=message.tries + was_sent,
        not_before_ms=now_ms + PAUSES_MS[message.pauses],
        answer=answer,
    )


def after_busy(message: WebhookMessage, topic: str, now_ms: int) -> WebhookMessage:
    """The message as it waits for room, which takes none of its tries; longer each time, five minutes at most."""
    last_ms = WEBHOOK_PAUSES_MS.get(topic, 0)
    pause_ms = next((each for each in _BUSY_MS if each > last_ms), _BUSY_MS[-1])
    return msgspec.structs.replace(message, not_before_ms=now_ms + pause_ms, answer=BUSY)


def tier_of(message: WebhookMessage, now_ms: int) -> str:
    """The topic to wait in: the longest whose pause ends in time, else the shortest."""
    left_ms = message.not_before_ms - now_ms
    fitting = [tier for tier, pause_ms in WEBHOOK_PAUSES_MS.items() if pause_ms <= left_ms]
    return fitting[-1] if fitting else next(iter(WEBHOOK_PAUSES_MS))


def looked_at_ms(message: WebhookMessage, topic: str, appended_ms: int) -> int:
    """When a message is looked at that was appended to a topic: at once in the outbox."""
    pause_ms = WEBHOOK_PAUSES_MS.get(topic)
    return 0 if pause_ms is None else min(message.not_before_ms, appended_ms + pause_ms)


def is_early(message: WebhookMessage, now_ms: int) -> bool:
    """Whether a message that is looked at has a pause to go through once more."""
    return message.not_before_ms - now_ms > _SOON_MS
