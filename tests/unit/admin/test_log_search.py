"""How a search of the log ends."""

from __future__ import annotations

from collections.abc import Iterable

from aiokafka import ConsumerRecord, TopicPartition

from ingress.admin.log.search import Bounds, LogSearch
from schemas.runtime.process.clock import Clock

RECORD_BYTES = 10
FIRST, SECOND = TopicPartition("t", 0), TopicPartition("t", 1)


class Log:
    """A consumer over records in memory; the timestamp of a record is its offset."""

    def __init__(self, ends: dict[TopicPartition, int]) -> None:
        self.positions = dict.fromkeys(ends, 0)
        self.paused: set[TopicPartition] = set()
        self._ends = ends

    async def getmany(
        self, *partitions: TopicPartition, timeout_ms: int, max_records: int
    ) -> dict[TopicPartition, list[ConsumerRecord]]:
        found = {}
        for partition in partitions:
            start = self.positions[partition]
            stop = min(start + 2, self._ends[partition])
            self.positions[partition] = stop
            found[partition] = [
                ConsumerRecord(*partition, n, n, 1, None, bytes(RECORD_BYTES), None, 0, 0, ())
                for n in range(start, stop)
            ]
        return found

    async def position(self, partition: TopicPartition) -> int:
        return self.positions[partition]

    def pause(self, partition: TopicPartition) -> None:
        self.paused.add(partition)


class SteppingClock(Clock):
    """A second passes with every look at it."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def monotonic_s(self) -> float:
        self.now_s += 1
        return self.now_s


def search_of(
    ends: dict[TopicPartition, int],
    until_ms: int = 10**6,
    records_max: int = 10**6,
    bytes_max: int = 10**9,
) -> LogSearch:
    bounds = Bounds(deadline_s=100, records_max=records_max, bytes_max=bytes_max)
    return LogSearch(Log(ends), SteppingClock(), bounds, 100.0, 0, until_ms, dict(ends))


async def read(search: LogSearch) -> list[int]:
    return [record.offset async for batch in search.batches() for record in batch]


def offsets(*counts: int) -> Iterable[int]:
    return sorted(offset for count in counts for offset in range(count))


async def test_a_search_reads_every_partition_to_its_end() -> None:
    """And says that it did not give up."""
    search = search_of({FIRST: 5, SECOND: 3})

    assert sorted(await read(search)) == offsets(5, 3)
    assert (search.gave_up, search.records, search.ends) == (None, 8, {})


async def test_what_was_appended_later_is_left_out() -> None:
    """The partition is not read on."""
    search = search_of({FIRST: 1_000}, until_ms=3)

    assert await read(search) == [0, 1, 2, 3]
    assert search.gave_up is None
    assert search.consumer.positions[FIRST] < 10


async def test_a_search_gives_up_at_its_bounds_and_says_by_which() -> None:
    """Neither an endless log nor a slow broker holds it for ever."""
    by_records = search_of({FIRST: 10**9}, records_max=10, until_ms=10**9)
    by_time = search_of({FIRST: 10**9}, until_ms=10**9)

    assert len(await read(by_records)) == 10
    assert by_records.gave_up == "records"
    assert 0 < len(await read(by_time)) <= 200
    assert by_time.gave_up == "time"


async def test_a_search_gives_up_by_bytes() -> None:
    """Large bodies are few records."""
    search = search_of({FIRST: 10**9}, until_ms=10**9, bytes_max=RECORD_BYTES * 7)

    assert len(await read(search)) == 8
    assert (search.gave_up, search.bytes) == ("bytes", RECORD_BYTES * 8)


async def test_a_search_that_goes_on_has_what_the_first_one_left() -> None:
    """Together they keep the bounds of one."""
    search = search_of({FIRST: 4}, records_max=10)
    await read(search)

    left = search.bounds_left
    assert left.records_max == 6
    assert left.bytes_max == search.bounds.bytes_max - 4 * RECORD_BYTES
    assert left.deadline_s < 100


async def test_a_partition_that_is_left_is_not_read_on() -> None:
    """What it had fetched already goes to nobody."""
    search = search_of({FIRST: 4, SECOND: 4})
    search.leave(SECOND)

    assert await read(search) == [0, 1, 2, 3]
    assert search.consumer.paused == {FIRST, SECOND}


def test_an_end_that_becomes_known_is_looked_for_where_the_broker_may_have_put_it() -> None:
    """While nothing is known of its clock that is a quarter of an hour later, and never later than before."""
    search = search_of({FIRST: 4}, until_ms=10**6)
    search.end_at(5_000)
    assert search.until_ms == 905_000

    search.end_at(10**6)
    assert search.until_ms == 905_000
