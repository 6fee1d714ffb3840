"""What became of messages, told from where their newest records stand."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from aiokafka import ConsumerRecord, TopicPartition

from ingress.admin.log.webhook_messages import Messages
from schemas.codec import encode
from schemas.events import WebhookMessage
from schemas.topics import WEBHOOK_PAUSES_MS, WEBHOOKS, WEBHOOKS_GIVEN_UP
from schemas.webhook_messages import new_message

_AT_MS: Final = 1_700_000_000_000
_TIER: Final = next(iter(WEBHOOK_PAUSES_MS))


def _message(subject: str = "r1", org: str = "acme", **changed: Any) -> WebhookMessage:
    message = new_message(org, "job.completed", subject, _AT_MS, {})
    return msgspec.structs.replace(message, **changed)


def _record(message: WebhookMessage, topic: str, offset: int, later_ms: int = 0) -> ConsumerRecord:
    value = encode(message)
    return ConsumerRecord(
        topic, 0, offset, _AT_MS + later_ms, 1, message.org.encode(), value, None, 4, len(value), []
    )


def _messages(*records: ConsumerRecord, org: str | None = None, outbox: int = 10) -> Messages:
    committed = {TopicPartition(WEBHOOKS, 0): outbox, TopicPartition(_TIER, 0): 5}
    found = Messages(committed, org, _AT_MS)
    for record in records:
        found.add(record)
    return found


def _states(found: Messages) -> list[str]:
    return [each["state"] for each in found.newest(None, 10)]


def test_what_is_committed_was_delivered() -> None:
    """A message that was not has a record elsewhere."""
    assert _states(_messages(_record(_message(), WEBHOOKS, 9))) == ["delivered"]


def test_what_is_not_committed_waits() -> None:
    """In the outbox or in a pause, until when it says."""
    first, again = _message(), _message(pauses=1, tries=1, not_before_ms=_AT_MS + 5_000)

    found = _messages(_record(first, WEBHOOKS, 9), _record(again, _TIER, 5, 9))

    (shown,) = found.newest(None, 10)
    assert (shown["state"], shown["next_at_ms"]) == ("waiting", _AT_MS + 5_000)
    assert _states(_messages(_record(first, WEBHOOKS, 10))) == ["waiting"]


def test_the_order_in_which_topics_are_read_does_not_matter() -> None:
    """The latest step decides."""
    steps = [
        _record(_message(), WEBHOOKS, 1),
        _record(_message(pauses=1), _TIER, 1, 10),
        _record(_message(pauses=1, answer="status 500"), WEBHOOKS_GIVEN_UP, 1, 20),
    ]

    assert _states(_messages(*steps)) == _states(_messages(*reversed(steps))) == ["given_up"]


def test_what_was_given_up_is_delivered_anew_once() -> None:
    """In the round after its last, from the first try on; afterwards its newest record is that of the new round."""
    given_up = _record(_message(pauses=9, tries=10, round=1), WEBHOOKS_GIVEN_UP, 1, 20)
    (anew,) = _messages(given_up).again(None, also_delivered=False)

    assert (anew.round, anew.pauses, anew.tries, anew.body) == (2, 0, 0, _message().body)
    done = _messages(given_up, _record(anew, WEBHOOKS, 3, 30))
    assert _states(done) == ["delivered"]
    assert done.again(None, also_delivered=False) == []


def test_what_was_delivered_is_delivered_anew_where_it_is_asked_for() -> None:
    """By its id or with all others; what waits is left alone."""
    delivered, waiting = _message("a"), _message("b")
    found = _messages(_record(delivered, WEBHOOKS, 1), _record(waiting, WEBHOOKS, 11))

    def ids(message_id: str | None, *, also_delivered: bool) -> list[str]:
        again = found.again(message_id, also_delivered=also_delivered)
        return [each.message_id for each in again]

    assert ids(None, also_delivered=False) == []
    assert ids(None, also_delivered=True) == [delivered.message_id]
    assert ids(delivered.message_id, also_delivered=False) == [delivered.message_id]
    assert ids(waiting.message_id, also_delivered=True) == []


def test_other_organizations_and_earlier_times_are_left_out() -> None:
    """And what is no message."""
    old = _record(_message("old", happened_at_ms=_AT_MS - 1), WEBHOOKS, 2)
    other = _record(_message(org="other"), WEBHOOKS, 3)
    odd = ConsumerRecord(WEBHOOKS, 0, 4, _AT_MS, 1, b"acme", b"nonsense", None, 4, 8, [])

    found = _messages(_record(_message(), WEBHOOKS, 1), old, other, odd, org="acme")

    assert [each["org"] for each in found.newest(None, 10)] == ["acme"]
    assert found.newest("waiting", 10) == []
