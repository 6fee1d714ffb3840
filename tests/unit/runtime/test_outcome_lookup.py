"""What the log proves about one request, and what it does not."""

from __future__ import annotations

import msgspec
import pytest

from schemas.codec import encode
from schemas.events import RequestFinished
from schemas.ids import uuid7
from schemas.runtime.kafka import stretches
from schemas.runtime.kafka.outcome_lookup import Absent, InLog, OutcomeLookup, Unproved
from schemas.topics import BACKGROUND, OUTCOMES, REQUESTS
from tests.support.events import accepted, finished
from tests.support.partitions import MemoryPartitions

T = 1_800_000_000_000
ID = uuid7(T, bytes(10))
SECOND, MINUTE = 1_000, 60_000
DEADLINE = T + MINUTE


class _Scene:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.log = MemoryPartitions()
        self.lookup = OutcomeLookup("memory:1")
        monkeypatch.setattr(self.lookup._readers, "_counts", dict.fromkeys(self.log.topics, 1))
        monkeypatch.setattr(self.lookup._readers, "_new_reader", lambda: self.log)
        self.requests = self.log.topics[REQUESTS]

    async def accepted(self, until_ms: int = DEADLINE) -> object:
        return await self.lookup.find_accepted("acme", ID, until_ms)

    def others(self, *seconds: int, broker_ahead_ms: int = 0) -> None:
        """Requests of others, accepted so many seconds from T on."""
        for second in seconds:
            at_ms = T + second * SECOND
            other = uuid7(at_ms, b"0123456789")
            self.requests.add(other, at_ms, broker_ahead_ms=broker_ahead_ms)


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> _Scene:
    """An empty log."""
    return _Scene(monkeypatch)


async def test_a_request_between_its_neighbours_is_found(scene: _Scene) -> None:
    """With the broker's time, and whether it came before it was given up."""
    scene.others(-90, -30)
    record = msgspec.structs.replace(accepted(), request_id=ID, produce_by_ms=T + 10 * SECOND)
    scene.requests.add(ID, T + 5, value=encode(record))
    scene.others(1, 2)

    assert await scene.accepted() == InLog(T + 5, is_in_time=True)
    assert scene.log.seeks == 1


async def test_a_copy_that_came_too_late_is_not_one_that_will_be_decided(scene: _Scene) -> None:
    """The limiter lets it go, or ends it."""
    record = msgspec.structs.replace(accepted(), request_id=ID, produce_by_ms=T + 10 * SECOND)
    scene.requests.add(ID, T, broker_ahead_ms=11 * SECOND, value=encode(record))

    assert await scene.accepted() == InLog(T + 11 * SECOND, is_in_time=False)


async def test_what_is_not_between_its_neighbours_was_never_accepted(scene: _Scene) -> None:
    """Read from the last before its time to the first after its deadline, and no further."""
    scene.others(-900, -90, -30, 1, 2, 63, *range(70, 100))

    assert await scene.accepted() == Absent()
    assert max(scene.log.read) <= 6
    assert min(scene.log.read) == 1


@pytest.mark.parametrize("seconds", [(), (-90,), (-3_600, 3_600)])
async def test_a_quiet_organization_proves_as_much(scene: _Scene, seconds: tuple[int, ...]) -> None:
    """The end of the partition is the end."""
    scene.others(*seconds)

    assert await scene.accepted() == Absent()


async def test_what_the_log_deleted_proves_nothing(scene: _Scene) -> None:
    """The oldest record that is left is younger than the request."""
    scene.requests.begin = 7
    scene.others(5, 100)

    assert await scene.accepted() == Unproved()


@pytest.mark.parametrize("ahead_ms", [-10 * MINUTE, 10 * MINUTE, 11 * SECOND, -11 * SECOND])
async def test_a_brokers_wrong_clock_hides_nothing(scene: _Scene, ahead_ms: int) -> None:
    """Whatever its time index says, neighbours are told by their own times."""
    scene.others(*range(-3_600, 0, 60), broker_ahead_ms=ahead_ms)
    assert await scene.accepted() == Absent()

    record = msgspec.structs.replace(accepted(), request_id=ID)
    scene.requests.add(ID, T, broker_ahead_ms=ahead_ms, value=encode(record))
    scene.others(*range(1, 1_000, 10), broker_ahead_ms=ahead_ms)
    found = await scene.accepted()

    assert isinstance(found, InLog)
    assert found.appended_ms == T + ahead_ms


async def test_a_read_that_would_be_too_long_is_unsure(
    scene: _Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends there, and says so."""
    monkeypatch.setattr(stretches, "_RECORDS_MAX", 20)
    scene.others(*([-90] + [1] * 100))

    assert await scene.accepted() == Unproved()
    assert len(scene.log.read) < 30


async def test_a_log_that_is_away_is_unsure(scene: _Scene) -> None:
    """Never absent."""
    scene.log.is_away = True

    assert await scene.accepted() == Unproved()


async def test_a_job_stands_among_background_requests(scene: _Scene) -> None:
    """Both topics are looked at."""
    record = msgspec.structs.replace(accepted(), request_id=ID)
    scene.log.topics[BACKGROUND].add(ID, T, value=encode(record))

    assert isinstance(await scene.accepted(), InLog)


async def test_the_first_outcome_is_the_one(scene: _Scene) -> None:
    """However long after its request it was written."""
    outcomes = scene.log.topics[OUTCOMES]
    for number, status in enumerate((200, 500)):
        outcome = msgspec.structs.replace(finished([], []), request_id=ID, http_status=status)
        outcomes.add(ID, T + (20 + number) * MINUTE, value=encode(outcome))

    found = await scene.lookup.find_outcome("acme", ID, T)

    assert isinstance(found, RequestFinished)
    assert found.http_status == 200


async def test_no_outcome_is_not_there_yet(scene: _Scene) -> None:
    """What else stands there is of others."""
    scene.log.topics[OUTCOMES].add(uuid7(T, b"0123456789"), T)

    assert await scene.lookup.find_outcome("acme", ID, T) == Absent()
