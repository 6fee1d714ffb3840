"""Which records of a request are found: by their places, by the time in its id, and never another's."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from schemas.codec import decode_as, encode
from schemas.events import Attempt, AttemptAdjusted, RecordRef, RequestFinished, UsageRecorded
from schemas.ids import uuid7
from schemas.runtime.kafka.outcome_lookup import Absent, Unproved
from schemas.runtime.kafka.record_reader import RecordGone
from schemas.runtime.kafka.request_records import Question, RequestRecords, Trail
from schemas.topics import BACKGROUND, DISPATCH, OUTCOMES, REQUESTS, USAGE_RECORDS
from schemas.written_off import UNKNOWN_BACKEND
from tests.support.events import accepted, admitted, attempt, finished
from tests.support.partitions import LogRecord, MemoryPartitions

T = 1_800_000_000_000
ID, OTHER = uuid7(T, bytes(10)), uuid7(T, b"0123456789")
SECOND, MINUTE = 1_000, 60_000


class _Scene:
    """A log in memory, with neighbours of the request in each partition that is searched."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.log = MemoryPartitions()
        self.records = RequestRecords("memory:1")
        readers = self.records._readers
        monkeypatch.setattr(readers, "_counts", dict.fromkeys(self.log.topics, 1))
        monkeypatch.setattr(readers, "_new_reader", lambda: self.log)
        monkeypatch.setattr(self.records._places, "record", self._record)
        self.places: list[str] = []
        """Topics of which a record was read by its place."""
        self.asked: dict[str, Any] = {
            "org": "acme", "request_id": ID, "now_ms": T + 10 * MINUTE, "is_known": False,
        }  # fmt: skip
        for topic in (REQUESTS, BACKGROUND):
            self.log.topics[topic].add(OTHER, T - 90 * SECOND)

    async def _record(self, ref: RecordRef, within_s: float) -> LogRecord:
        self.places.append(ref.topic)
        held = self.log.topics[ref.topic].records
        if not 0 <= ref.offset < len(held):
            raise RecordGone("gone")
        return held[ref.offset]

    def put(self, topic: str, event: Any, after_ms: int) -> RecordRef:
        """Append an event of the request."""
        request_id = getattr(event, "request_id", ID)
        held = self.log.topics[topic]
        held.add(request_id, T + after_ms, value=encode(event))
        return RecordRef(topic=topic, partition=0, offset=held.end - 1)

    def story(self, *attempts: Attempt, org: str = "acme") -> RecordRef:
        """A request that was answered: its records, and where its outcome stands."""
        first = msgspec.structs.replace(accepted(), request_id=ID, org=org)
        request = self.put(REQUESTS, first, 5)
        admission = self.put(DISPATCH, admitted(first, encode(first)), 9)
        outcome = finished(list(attempts or [attempt()]), [], request_id=ID, org=org)
        outcome = msgspec.structs.replace(outcome, parents=[request, admission])
        place = self.put(OUTCOMES, outcome, 900)
        for each in attempts or [attempt()]:
            self.put(USAGE_RECORDS, _line(each, org), 950)
        return place

    async def find(self, **more: Any) -> Any:
        return await self.records.find(Question(**(self.asked | more)))

    async def kinds(self, **more: Any) -> list[str]:
        trail = await self.find(**more)
        assert isinstance(trail, Trail)
        return sorted(type(each.event).__name__ for each in trail.found)


def _line(of: Attempt, org: str) -> UsageRecorded:
    return UsageRecorded(
        usage_id=f"{ID}:{of.attempt}:0", request_id=ID, org=org, key_id="key_a", attempt=of.attempt,
        revision=0, route="chat.completions", model="echo", backend=of.backend, status=of.status,
        started_at_ms=T, finished_at_ms=T + 900, input_tokens=1, output_tokens=1, cached_tokens=0,
        reasoning_tokens=0, estimated=False,
        outcome=RecordRef(topic=OUTCOMES, partition=0, offset=0),
    )  # fmt: skip


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> _Scene:
    """An empty log."""
    return _Scene(monkeypatch)


ALL = ["RequestAccepted", "RequestAdmitted", "RequestFinished", "UsageRecorded"]


async def test_all_records_are_found_by_the_time_in_the_id(scene: _Scene) -> None:
    """When the ledger has forgotten the request: two searches, the rest by their places."""
    scene.story()

    assert await scene.kinds(with_all=True) == ALL
    assert scene.places == [DISPATCH]


async def test_where_the_ledger_says_the_place_nothing_is_searched(scene: _Scene) -> None:
    """One record; with the request itself, two."""
    place = scene.story()

    assert await scene.kinds(is_known=True, outcome_at=place) == ["RequestFinished"]
    found = await scene.kinds(is_known=True, outcome_at=place, with_request=True)
    assert found == ["RequestAccepted", "RequestFinished"]
    assert (scene.places, scene.log.seeks) == ([OUTCOMES, OUTCOMES, REQUESTS], 0)


async def test_an_outcome_that_the_ledger_still_has_is_read_nowhere(scene: _Scene) -> None:
    """What it follows from stands at its places; usage lines are not written yet, so none is looked for."""
    scene.story()
    stood = scene.log.topics[OUTCOMES].records[0]
    outcome = decode_as(stood.value, RequestFinished)

    assert await scene.kinds(is_known=True, outcome=outcome) == ["RequestFinished"]
    assert await scene.kinds(is_known=True, outcome=outcome, with_all=True) == ALL[:3]
    assert (scene.places, scene.log.seeks) == ([REQUESTS, DISPATCH], 0)


@pytest.mark.parametrize("more", [{"with_all": True}, {"with_request": True}, {}])
async def test_a_request_of_another_organization_is_none(
    scene: _Scene, more: dict[str, Any]
) -> None:
    """Though it stands in the same partition under the very id; by a search, and at a place."""
    place = scene.story(org="other")

    assert await scene.find(**more) == Absent()
    assert await scene.find(outcome_at=place, **more) == Absent()


async def test_what_was_never_accepted_is_absent_and_read_no_further(scene: _Scene) -> None:
    """A minute behind its time, which is longer than a body and the log may take."""
    for second in (1, 30, 59, 63, *range(70, 200)):
        scene.log.topics[REQUESTS].add(OTHER, T + second * SECOND)

    assert await scene.find(with_all=True) == Absent()
    assert len([offset for offset in scene.log.read if offset > 8]) == 0


async def test_what_the_ledger_knows_and_the_log_has_not_is_unsure(scene: _Scene) -> None:
    """It was accepted, so it is somewhere."""
    assert await scene.find(is_known=True) == Unproved()


async def test_a_log_that_is_away_tells_nothing(scene: _Scene) -> None:
    """Never absent."""
    scene.log.is_away = True

    assert await scene.find() == Unproved()


async def test_before_its_deadline_a_request_that_nobody_decided_is_not_searched_for_an_end(
    scene: _Scene,
) -> None:
    """The ledger would know of one: however long the partition is, only its request is read."""
    first = msgspec.structs.replace(accepted(), request_id=ID, deadline_ms=T + MINUTE)
    scene.put(BACKGROUND, first, 5)
    scene.log.topics[OUTCOMES].add(OTHER, T)

    assert await scene.kinds(now_ms=T + SECOND) == ["RequestAccepted"]
    assert scene.log.seeks == 2
    assert await scene.kinds(is_known=True, has_ended=False) == ["RequestAccepted"]
    assert scene.log.seeks == 4
    assert await scene.kinds() == ["RequestAccepted"]
    assert scene.log.seeks == 7
    assert await scene.kinds(now_ms=T + SECOND, has_memory=False) == ["RequestAccepted"]
    assert scene.log.seeks == 10


async def test_corrections_are_looked_for_where_an_attempt_was_written_off(scene: _Scene) -> None:
    """Nobody else's, and none of one whose backend answered."""
    lost = msgspec.structs.replace(attempt(), backend=UNKNOWN_BACKEND, status="unknown")
    scene.story(lost)
    outcome = finished([lost], [], request_id=ID)
    for request_id in (OTHER, ID):
        scene.put(OUTCOMES, _adjusted(outcome, request_id), 2_000)

    found = await scene.kinds(with_all=True)

    assert found == ["AttemptAdjusted", *ALL]


def _adjusted(outcome: RequestFinished, request_id: str) -> AttemptAdjusted:
    return AttemptAdjusted(
        request_id=request_id, org="acme", key_id="key_a", route="chat.completions", model="echo",
        revision=1, delta=outcome.attempts[0], bookings=[], reason="late", adjusted_at_ms=T + 2_000,
        deadline_ms=T + MINUTE, parents=[],
    )  # fmt: skip


async def test_a_record_that_the_log_forgot_is_missed_and_said_so(scene: _Scene) -> None:
    """Retention took the admission."""
    place = scene.story()
    scene.log.topics[DISPATCH].records.clear()

    trail = await scene.find(is_known=True, outcome_at=place, with_all=True)

    assert isinstance(trail, Trail)
    assert not trail.is_whole
    assert trail.accepted is not None


async def test_of_one_under_way_its_admission_is_found(scene: _Scene) -> None:
    """In the partition of the request, where all its records are wanted."""
    first = msgspec.structs.replace(accepted(), request_id=ID)
    scene.put(REQUESTS, first, 5)
    scene.put(DISPATCH, admitted(first, encode(first)), 9)

    found = await scene.kinds(is_known=True, has_ended=False, with_all=True)

    assert found == ["RequestAccepted", "RequestAdmitted"]
