"""What of an outcome is told to a budget service."""

from __future__ import annotations

import msgspec

from accounting.spend_lines import may_have_line, spend_line
from schemas.budget_service import spend_balance
from schemas.codec import encode
from schemas.events import AttemptAdjusted, Booking
from tests.support.event_samples import SAMPLES
from tests.support.events import attempt, finished

OURS = Booking(key=spend_balance("org"), unit="nano_usd", amount=1_234_567_890)
OTHER = Booking(key="b:org/nano_usd:total", unit="nano_usd", amount=9)


def test_an_outcome_tells_what_was_booked_for_the_service() -> None:
    """Under the id of its request, in decimal USD."""
    event = finished([attempt()], [OTHER, OURS])
    line = spend_line(event)

    assert may_have_line(encode(event))
    assert line is not None
    assert (line.id, line.request_id) == (event.request_id, event.request_id)
    assert line.spent_usd == "1.234567890"
    assert (line.org, line.key, line.at_ms) == (event.org, event.key_id, event.finished_at_ms)


def test_what_nobody_was_asked_for_is_not_told() -> None:
    """And is not even decoded."""
    event = finished([attempt()], [OTHER])

    assert not may_have_line(encode(event))
    assert not may_have_line(None)
    assert spend_line(event) is None
    assert spend_line(finished([], [msgspec.structs.replace(OURS, amount=0)])) is None


def test_a_correction_has_an_id_of_its_own_and_may_take_back() -> None:
    """So that it counts once beside what it corrects."""
    adjusted = SAMPLES["AttemptAdjusted"]
    assert isinstance(adjusted, AttemptAdjusted)
    given = msgspec.structs.replace(adjusted, bookings=[msgspec.structs.replace(OURS, amount=-5)])
    line = spend_line(given)

    assert line is not None
    assert line.id == f"{given.request_id}:{given.delta.attempt}:{given.revision}"
    assert line.spent_usd == "-0.000000005"
