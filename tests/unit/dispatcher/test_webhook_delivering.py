"""One message from its record to its end, on a log in memory."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from typing import Any, Final, cast

import msgspec
import pytest

from dispatcher.webhooks.delivering import Deliveries
from dispatcher.webhooks.receivers import Receivers
from dispatcher.webhooks.schedule import PAUSES_MS
from dispatcher.webhooks.sending import Sender
from schemas.codec import decode_as
from schemas.config_state import Snapshot
from schemas.entities import Organization
from schemas.events import WebhookMessage
from schemas.outgoing import Outgoing
from schemas.peppers import Peppers
from schemas.runtime.kafka.produce import Producer
from schemas.runtime.process.clock import Clock
from schemas.runtime.process.telemetry import Metrics
from schemas.topics import WEBHOOK_PAUSES_MS, WEBHOOKS, WEBHOOKS_GIVEN_UP
from schemas.webhook_messages import new_message
from schemas.webhook_signing import webhook_secret
from schemas.webhooks import Webhooks
from tests.support.webhook_receiver import WebhookReceiver, webhook_receiver

_PEPPER: Final = b"p" * 32
_SHORTEST, *_, _LONGEST = WEBHOOK_PAUSES_MS


@dataclass
class _Log:
    """Where records go."""

    records: list[Outgoing] = field(default_factory=list)

    async def deliver(self, records: list[Outgoing], _: float) -> None:
        self.records += records

    @property
    def last(self) -> tuple[str, WebhookMessage]:
        record = self.records[-1]
        return record.topic, decode_as(record.value, WebhookMessage)


def _deliveries(log: _Log, webhooks: Webhooks | None, **config: Any) -> Deliveries:
    snapshot = Snapshot(organizations={"acme": Organization(webhooks=webhooks)}, **config)
    return Deliveries(
        sender=Sender(ssl.create_default_context(), ("127.0.0.1",)),
        receivers=Receivers(),
        producer=cast("Producer", log),
        config=lambda: snapshot,
        peppers=Peppers((_PEPPER,)),
        clock=Clock(),
        metrics=Metrics(),
    )


def _message(**changed: Any) -> WebhookMessage:
    message = new_message("acme", "job.completed", "r1", Clock().now_ms(), {"id": "r1"})
    return msgspec.structs.replace(message, **changed)


def _told_at(receiver: WebhookReceiver) -> Webhooks:
    return Webhooks(url=f"{receiver.url}/hook")


async def test_a_message_that_is_taken_leaves_nothing_behind() -> None:
    """Signed with the organization's secret; nothing is written."""
    log = _Log()
    with webhook_receiver() as receiver:
        await _deliveries(log, _told_at(receiver)).deliver(_message(), WEBHOOKS, 0)

        (delivery,) = receiver.deliveries
    assert delivery.verified(webhook_secret(_PEPPER, "acme", 1)) is not None
    assert log.records == []


async def test_a_message_that_is_not_taken_waits_in_a_topic() -> None:
    """With what came of the try, and when it is due."""
    log = _Log()
    with webhook_receiver() as receiver:
        receiver.answer = lambda _: 503
        await _deliveries(log, _told_at(receiver)).deliver(_message(), WEBHOOKS, 0)

    topic, waiting = log.last
    assert topic == _SHORTEST
    assert (waiting.tries, waiting.pauses, waiting.answer) == (1, 1, "status 503")
    assert 0 < waiting.not_before_ms - Clock().now_ms() <= PAUSES_MS[0]


async def test_a_message_that_was_tried_often_enough_is_given_up() -> None:
    """Where a command finds it."""
    log = _Log()
    with webhook_receiver() as receiver:
        receiver.answer = lambda _: 500
        last = _message(pauses=len(PAUSES_MS), tries=9)
        await _deliveries(log, _told_at(receiver)).deliver(last, _LONGEST, 0)

    topic, given_up = log.last
    assert topic == WEBHOOKS_GIVEN_UP
    assert (given_up.tries, given_up.answer) == (10, "status 500")


async def test_a_message_whose_pause_goes_on_is_not_sent() -> None:
    """It passes through the longest topic that ends in time."""
    log = _Log()
    with webhook_receiver() as receiver:
        due_ms = Clock().now_ms() + 7 * 3_600_000
        early = _message(pauses=8, not_before_ms=due_ms)
        await _deliveries(log, _told_at(receiver)).deliver(early, _LONGEST, 0)

        assert receiver.deliveries == []
    topic, again = log.last
    assert (topic, again) == (_LONGEST, early)


@pytest.mark.parametrize(
    ("webhooks", "url"),
    [
        (None, None),
        (Webhooks(allowed=("https://a.example/",)), None),
        (Webhooks(url="https://a.example/", events=("threshold",)), None),
        (Webhooks(url="https://a.example/"), "https://b.example/jobs"),
    ],
    ids=["none any more", "no address", "not wanted any more", "allowed no more"],
)
async def test_what_the_organization_allows_no_more_is_given_up_unsent(
    webhooks: Webhooks | None, url: str | None
) -> None:
    """The configuration of now decides, also for what waited."""
    log = _Log()

    await _deliveries(log, webhooks).deliver(_message(url=url), WEBHOOKS, 0)

    topic, given_up = log.last
    assert (topic, given_up.tries) == (WEBHOOKS_GIVEN_UP, 0)


async def test_what_cannot_be_read_of_an_organization_makes_its_messages_wait() -> None:
    """A newer version wrote it, and this one knows no address."""
    log, closed = _Log(), frozenset({("organization", "acme")})

    await _deliveries(log, None, closed=closed).deliver(_message(), WEBHOOKS, 0)

    topic, waiting = log.last
    assert (topic, waiting.tries, waiting.pauses) == (_SHORTEST, 0, 1)
