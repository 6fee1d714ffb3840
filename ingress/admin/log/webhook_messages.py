"""Messages of webhooks as administrators see them: where the newest record of each stands says what became of it.

A message that waits has a record that its group has not committed; one that was given up stands among those; any other was
delivered.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias, TypedDict

import msgspec
from aiokafka import ConsumerRecord, TopicPartition

from schemas.codec import UNDECODABLE, decode_as
from schemas.events import WebhookMessage
from schemas.topics import WEBHOOK_PAUSES_MS, WEBHOOKS, WEBHOOKS_GIVEN_UP

WebhookState: TypeAlias = Literal["delivered", "waiting", "given_up"]
READ = (WEBHOOKS, *WEBHOOK_PAUSES_MS, WEBHOOKS_GIVEN_UP)
"""The topics that together say what became of messages."""
_MESSAGES_MAX = 100_000


class MessageShown(TypedDict):
    """A message in a list; `next_at_ms` is when it is tried again, where it waits."""

    id: str
    org: str
    type: str
    url: str | None
    state: WebhookState
    happened_at_ms: int
    tries: int
    answer: str | None
    next_at_ms: int | None
    round: int


@dataclass(slots=True)
class _Seen:
    message: WebhookMessage
    state: WebhookState
    at_ms: int
    last_round: int


@dataclass(slots=True)
class Messages:
    """The newest record of each message of one organization, or of all."""

    committed: Mapping[TopicPartition, int]
    """How far the deliverers are."""
    org: str | None
    from_ms: int
    """What happened earlier is left out."""
    is_cut: bool = False
    """Whether there were more than are kept."""
    _seen: dict[str, _Seen] = field(default_factory=dict)

    def add(self, record: ConsumerRecord) -> None:
        """Take a record of any of the topics in, in whatever order they come."""
        try:
            message = decode_as(record.value, WebhookMessage)
        except UNDECODABLE:
            return
        if self.org not in (None, message.org) or message.happened_at_ms < self.from_ms:
            return
        known = self._seen.get(message.message_id)
        if known is None and len(self._seen) >= _MESSAGES_MAX:
            self.is_cut = True
            return
        last_round = max(message.round, known.last_round if known else 0)
        if known is None or _place(message, record.timestamp) >= _place(known.message, known.at_ms):
            state = self._state(record)
            self._seen[message.message_id] = _Seen(message, state, record.timestamp, last_round)
        else:
            known.last_round = last_round

    def newest(self, state: WebhookState | None, limit: int) -> list[MessageShown]:
        """The last that happened, of one state or of any."""
        found = [each for each in self._seen.values() if state in (None, each.state)]
        found.sort(key=lambda each: each.message.happened_at_ms, reverse=True)
        return [_shown(each) for each in found[:limit]]

    def again(self, message_id: str | None, *, also_delivered: bool) -> list[WebhookMessage]:
        """Messages as they are delivered anew: one, those that were given up, or all that are not waiting."""
        return [
            _anew(each)
            for each in self._seen.values()
            if message_id in (None, each.message.message_id)
            and each.state != "waiting"
            and (each.state == "given_up" or also_delivered or message_id is not None)
        ]

    def _state(self, record: ConsumerRecord) -> WebhookState:
        if record.topic == WEBHOOKS_GIVEN_UP:
            return "given_up"
        place = TopicPartition(record.topic, record.partition)
        return "waiting" if record.offset >= self.committed.get(place, 0) else "delivered"


def _place(message: WebhookMessage, appended_ms: int) -> tuple[int, int, int]:
    """Later steps of a message are larger: another round, another pause, another time."""
    return message.round, message.pauses, appended_ms


def _shown(seen: _Seen) -> MessageShown:
    message = seen.message
    return {
        "id": message.message_id,
        "org": message.org,
        "type": message.type,
        "url": message.url,
        "state": seen.state,
        "happened_at_ms": message.happened_at_ms,
        "tries": message.tries,
        "answer": message.answer,
        "next_at_ms": message.not_before_ms or None if seen.state == "waiting" else None,
        "round": message.round,
    }


def _anew(seen: _Seen) -> WebhookMessage:
    return msgspec.structs.replace(
        seen.message,
        pauses=0,
        tries=0,
        not_before_ms=0,
        answer=None,
        round=seen.last_round + 1,
    )
