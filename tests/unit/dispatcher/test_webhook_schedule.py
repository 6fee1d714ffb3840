"""When a message is tried again, and where it waits."""

from __future__ import annotations

from itertools import pairwise
from typing import Final, cast

import msgspec
import pytest

from dispatcher.webhooks.schedule import (
    PAUSES_MS,
    after_busy,
    after_failure,
    is_early,
    looked_at_ms,
    tier_of,
)
from schemas.events import WebhookMessage
from schemas.topics import WEBHOOK_PAUSES_MS, WEBHOOKS
from tests.support.event_samples import SAMPLES

_NOW_MS: Final = 1_700_000_000_000
_DAY_MS: Final = 24 * 3_600_000
_NEW: Final = msgspec.structs.replace(
    cast("WebhookMessage", SAMPLES["WebhookMessage"]), pauses=0, tries=0, not_before_ms=0
)
_SHORTEST, *_ = WEBHOOK_PAUSES_MS


def _passed(message: WebhookMessage, now_ms: int) -> tuple[int, int]:
    """When the message is due again, and the topics that it passed until then."""
    passes = 0
    while True:
        tier = tier_of(message, now_ms)
        now_ms, passes = looked_at_ms(message, tier, now_ms), passes + 1
        if not is_early(message, now_ms):
            return max(now_ms, message.not_before_ms), passes


def test_a_message_is_tried_ten_times_within_a_day() -> None:
    """With pauses that grow, each ending when it says, whatever topics it is waited in."""
    tried_ms, now_ms, message = [_NOW_MS], _NOW_MS, _NEW
    while (again := after_failure(message, "status 503", now_ms, was_sent=True)) is not None:
        now_ms, passes = _passed(again, now_ms)
        assert now_ms == again.not_before_ms
        assert passes <= 10
        tried_ms.append(now_ms)
        message = again

    pauses_ms = [later - earlier for earlier, later in pairwise(tried_ms)]
    assert len(tried_ms) == 10
    assert pauses_ms == sorted(set(pauses_ms)) == list(PAUSES_MS)
    assert 0.9 * _DAY_MS < tried_ms[-1] - _NOW_MS < _DAY_MS
    assert message.tries == 9
    assert message.answer == "status 503"


def test_what_was_not_sent_is_no_try_and_takes_a_pause() -> None:
    """A receiver that fails is not asked with everything that waits for it."""
    again = after_failure(_NEW, "failing", _NOW_MS, was_sent=False)

    assert again is not None
    assert (again.tries, again.pauses) == (0, 1)


def test_what_finds_no_room_waits_longer_each_time_and_keeps_its_tries() -> None:
    """Up to five minutes: a crowd is not written again and again."""
    topic, waits_ms = WEBHOOKS, []
    for _ in range(6):
        message = after_busy(_NEW, topic, _NOW_MS)
        assert (message.pauses, message.tries) == (0, 0)
        waits_ms.append(message.not_before_ms - _NOW_MS)
        topic = tier_of(message, _NOW_MS)

    assert waits_ms[:2] == [5_000, 30_000]
    assert max(waits_ms) == 300_000


@pytest.mark.parametrize(
    ("left_ms", "tier_ms"),
    [
        (-10, 5_000),
        (4_999, 5_000),
        (29_999, 5_000),
        (30_000, 30_000),
        (3_599_999, 300_000),
        (36_000_000, 3_600_000),
    ],
)
def test_a_message_waits_in_the_longest_topic_that_ends_in_time(left_ms: int, tier_ms: int) -> None:
    """Else in the shortest."""
    message = msgspec.structs.replace(_NEW, not_before_ms=_NOW_MS + left_ms)

    assert WEBHOOK_PAUSES_MS[tier_of(message, _NOW_MS)] == tier_ms


def test_the_outbox_is_looked_at_at_once() -> None:
    """It has no pause."""
    assert looked_at_ms(_NEW, WEBHOOKS, _NOW_MS) == 0
    assert looked_at_ms(_NEW, _SHORTEST, _NOW_MS) == 0
