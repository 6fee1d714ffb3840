"""One message from its record to its end: delivered, waiting for another try in a topic, or given up.

Whatever happens is durable before the record counts as done, so that a kill repeats a delivery and loses none.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec
from yarl import URL

from dispatcher.webhooks.receivers import Receivers
from dispatcher.webhooks.schedule import (
    BUSY,
    after_busy,
    after_failure,
    is_early,
    looked_at_ms,
    tier_of,
)
from dispatcher.webhooks.sending import Answer, Sender
from schemas.config_state import Snapshot
from schemas.entities import Organization
from schemas.events import WebhookMessage
from schemas.log_events import LogEvent
from schemas.outgoing import Outgoing, webhook_given_up_record, webhook_paused_record
from schemas.peppers import Peppers
from schemas.runtime.kafka.produce import Producer
from schemas.runtime.process.clock import Clock
from schemas.runtime.process.event_log import EventLog
from schemas.runtime.process.telemetry import Metrics
from schemas.webhook_messages import kind_of
from schemas.webhook_signing import secrets_of, signed_headers
from schemas.webhooks import Webhooks, is_covered

__all__ = ["Deliveries"]

_LOG = EventLog(__name__)

_TURN_WITHIN_S: Final = 30.0
_PRODUCE_WITHIN_S: Final = 30.0
_CLOSED: Final = Answer("what the organization says cannot be read here")
_NOBODY: Final = Answer("the organization allows no address for it", is_final=True)


@dataclass(frozen=True, slots=True)
class _Target:
    url: str
    secrets: Sequence[bytes]


@dataclass(slots=True)
class Deliveries:
    """The deliveries of one dispatcher."""

    sender: Sender
    receivers: Receivers
    producer: Producer
    config: Callable[[], Snapshot]
    peppers: Peppers
    clock: Clock
    metrics: Metrics

    async def deliver(self, message: WebhookMessage, topic: str, appended_ms: int) -> None:
        """Bring a message one step on, once its time has come. Raises ``ProduceFailed`` when that is not durable."""
        await self._until(looked_at_ms(message, topic, appended_ms))
        if is_early(message, now_ms := self.clock.now_ms()):
            await self._park(message, now_ms)
            return
        await self._until(message.not_before_ms)
        config = self.config()
        if ("organization", message.org) in config.closed:
            await self._fail(message, _CLOSED, was_sent=False)
            return
        target = _target(message, config.organizations, self.peppers)
        if target is None:
            await self._give_up(message, _NOBODY, was_sent=False)
            return
        origin = str(URL(target.url).origin())
        async with self.receivers.turn((message.org, origin), _TURN_WITHIN_S) as turn:
            if turn.refused is None:
                answer = await self._send(message, target)
                turn.has_failed = not answer.is_taken
        if turn.refused == BUSY:
            await self._park(after_busy(message, topic, self.clock.now_ms()), self.clock.now_ms())
            self._count("waits")
        elif turn.refused is not None:
            await self._fail(message, Answer(turn.refused), was_sent=False)
        elif answer.is_taken:
            self._count("delivered")
        else:
            await self._fail(message, answer, was_sent=True)

    async def _send(self, message: WebhookMessage, target: _Target) -> Answer:
        at_s = self.clock.now_ms() // 1000
        headers = signed_headers(target.secrets, message.message_id, at_s, message.body)
        return await self.sender.send(target.url, headers, message.body)

    async def _fail(self, message: WebhookMessage, answer: Answer, *, was_sent: bool) -> None:
        now_ms = self.clock.now_ms()
        again = after_failure(message, answer.said, now_ms, was_sent=was_sent)
        if again is None or answer.is_final:
            await self._give_up(message, answer, was_sent=was_sent)
            return
        await self._park(again, now_ms)
        self._count("failed" if was_sent else "waits")

    async def _park(self, message: WebhookMessage, now_ms: int) -> None:
        await self._produce(webhook_paused_record(message, tier_of(message, now_ms), now_ms))

    async def _give_up(self, message: WebhookMessage, answer: Answer, *, was_sent: bool) -> None:
        ended = msgspec.structs.replace(message, tries=message.tries + was_sent, answer=answer.said)
        await self._produce(webhook_given_up_record(ended, self.clock.now_ms()))
        self._count("given_up")
        _LOG.event(
            LogEvent.WEBHOOK_GIVEN_UP,
            message_id=message.message_id,
            org=message.org,
            count=ended.tries,
            cause=answer.said,
        )

    async def _produce(self, record: Outgoing) -> None:
        await self.producer.deliver([record], time.monotonic() + _PRODUCE_WITHIN_S)

    async def _until(self, due_ms: int) -> None:
        left_ms = due_ms - self.clock.now_ms()
        if left_ms > 0:
            await asyncio.sleep(left_ms / 1000)

    def _count(self, result: str) -> None:
        self.metrics.count("tallygate_webhooks_total", result)


def _target(
    message: WebhookMessage, organizations: Mapping[str, Organization], peppers: Peppers
) -> _Target | None:
    """Where the message goes as the organization says now; ``None`` where it allows nothing of the kind any more."""
    org = organizations.get(message.org)
    webhooks = None if org is None else org.webhooks
    if webhooks is None:
        return None
    url = _url_of(message, webhooks)
    if url is None:
        return None
    return _Target(url, secrets_of(peppers, message.org, webhooks.secrets))


def _url_of(message: WebhookMessage, webhooks: Webhooks) -> str | None:
    if message.url is not None:
        return message.url if is_covered(message.url, webhooks.allowed) else None
    kind = kind_of(message.type)
    return webhooks.url if kind is not None and webhooks.tells(kind) else None
