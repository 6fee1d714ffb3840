"""Records that cannot be read, that break their handler, or that come late: each ends alone."""

from __future__ import annotations

import pytest

from tests.support.limiter_parts import FakeRecord
from tests.unit.limiter.admission_scene import (
    LETTERS,
    dispatched_ids,
    new_limiter,
    new_request,
    statuses,
)


async def test_bytes_that_are_no_request_are_dead_lettered_beside_the_batch() -> None:
    """Its neighbours are admitted."""
    limiter, _ = new_limiter()
    garbage = FakeRecord(b"\x01\x00\x00\x00\x63garbage", 7)
    await limiter.handle(garbage, limiter.record(new_request(0)))

    assert dispatched_ids(limiter) == ["r0"]
    assert garbage.finished == 1
    assert [r.value for r in limiter.producer.produced if r.topic == LETTERS] == [garbage.value]


async def test_a_request_that_a_newer_version_wrote_waits_for_it() -> None:
    """It is no dead letter, and its neighbours are admitted."""
    limiter, _ = new_limiter()
    newer = FakeRecord(b"\x00\x00\x00\x00\x63newer", 7)
    await limiter.handle(newer, limiter.record(new_request(0)))

    assert dispatched_ids(limiter) == ["r0"]
    assert (newer.finished, newer.held) == (
        0,
        "unknown_schema: id 99 is published by a newer version",
    )
    assert [r for r in limiter.producer.produced if r.topic == LETTERS] == []


@pytest.mark.parametrize("late_ms", [1_000, 15 * 60_000, 24 * 3_600_000])
async def test_a_first_delivery_gets_its_outcome_however_late_it_is(late_ms: int) -> None:
    """The limiter was away: the request expired, and whoever asks for it is told so."""
    limiter, _ = new_limiter()
    deadline_ms = limiter.clock.now_ms() - late_ms
    record = limiter.record(new_request(0, deadline_ms=deadline_ms))
    await limiter.handle(record)

    assert {status for status, _ in statuses(limiter).values()} == {"expired"}
    assert (dispatched_ids(limiter), record.finished) == ([], 1)


async def test_a_record_that_breaks_its_handler_ends_as_a_failed_request() -> None:
    """The boundary of last resort: outcome, reply and dead letter, before its offset goes."""
    limiter, _ = new_limiter()
    record = limiter.record(new_request(0))
    parts = limiter.parts()
    await parts.culprits.end_record(record.as_record(), ValueError("odd"))
    await parts.settled()

    assert statuses(limiter) == {"r0": ("failed", 500)}
    assert len(limiter.bus.sent) == 1
    assert [r.value for r in limiter.producer.produced if r.topic == LETTERS] == [record.value]
    assert record.finished == 1


async def test_bytes_that_break_the_handler_are_dead_lettered_as_any_others() -> None:
    """Whose request it is cannot be told."""
    limiter, _ = new_limiter()
    garbage = FakeRecord(b"\x01garbage", 7)
    await limiter.parts().culprits.end_record(garbage.as_record(), ValueError("odd"))

    assert [r.value for r in limiter.producer.produced if r.topic == LETTERS] == [garbage.value]
    assert (garbage.finished, statuses(limiter)) == (1, {})
