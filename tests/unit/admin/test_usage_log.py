"""Folding the usage log on from a checkpoint gives what a reading from the beginning gives, or says why not."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
from aiokafka import ConsumerRecord, TopicPartition

from ingress.admin.finance import usage_log
from ingress.admin.finance.checkpoint import DAY_MS, open_checkpoint
from ingress.admin.finance.usage_log import LogReplaced, UsageLog
from schemas.codec import encode
from schemas.events import RecordRef
from schemas.runtime.kafka.topic_admin import TopicState
from schemas.topics import USAGE_RECORDS
from tests.unit.admin.test_verify import HOUR, LINE

RECORDS_PER_POLL = 2


def value(name: str, **changes: Any) -> bytes:
    return encode(msgspec.structs.replace(LINE, usage_id=f"{name}:1:0", **changes))


class Log:
    """Partitions in memory, and a consumer of them; a record's time is that of a day, plus its offset."""

    def __init__(self, *partitions: Sequence[bytes | None]) -> None:
        self.partitions = [list(values) for values in partitions]
        self.begins = [0] * len(partitions)
        self.positions: dict[TopicPartition, int] = {}
        self.read: list[tuple[int, int]] = []

    def assign(self, partitions: list[TopicPartition]) -> None:
        self.positions = dict.fromkeys(partitions, 0)

    def assignment(self) -> frozenset[TopicPartition]:
        return frozenset(self.positions)

    def seek(self, partition: TopicPartition, offset: int) -> None:
        assert self.begins[partition.partition] <= offset
        self.positions[partition] = offset

    async def position(self, partition: TopicPartition) -> int:
        return self.positions[partition]

    async def beginning_offsets(self, partitions: list[TopicPartition]) -> dict[Any, int]:
        return {p: self.begins[p.partition] for p in partitions}

    async def end_offsets(self, partitions: list[TopicPartition]) -> dict[Any, int]:
        return {p: len(self.partitions[p.partition]) for p in partitions}

    async def offsets_for_times(self, times: dict[TopicPartition, int]) -> dict[Any, Any]:
        return {p: self._first_from(p.partition, at_ms) for p, at_ms in times.items()}

    def _first_from(self, number: int, at_ms: int) -> ConsumerRecord | None:
        later = (r for r in self._records(number) if r.timestamp >= at_ms)
        return next(later, None)

    def _records(self, number: int) -> list[ConsumerRecord]:
        stored = list(enumerate(self.partitions[number]))[self.begins[number] :]
        return [
            ConsumerRecord(USAGE_RECORDS, number, n, DAY_MS + n, 1, b"", raw, None, 0, 0, ())
            for n, raw in stored
        ]

    async def getmany(self, *, timeout_ms: int, max_records: int) -> dict[Any, Any]:
        found = {}
        for partition, position in self.positions.items():
            records = [r for r in self._records(partition.partition) if r.offset >= position]
            found[partition] = records[:RECORDS_PER_POLL]
            self.positions[partition] += len(found[partition])
            self.read += [(partition.partition, r.offset) for r in found[partition]]
        return {partition: records for partition, records in found.items() if records}


@pytest.fixture(autouse=True)
def _topic(monkeypatch: pytest.MonkeyPatch) -> None:
    async def listed(_: str) -> list[TopicState]:
        return [TopicState(USAGE_RECORDS, 2)]

    monkeypatch.setattr(usage_log, "list_topics", listed)


async def fold(
    folder: Path, log: Log, *, from_ms: int = DAY_MS, why_anew: str | None = None
) -> tuple[dict[str, int], str | None]:
    """The number of requests that the log has by organization, and why it was read anew."""
    with open_checkpoint(folder, DAY_MS) as checkpoint:
        usage = UsageLog(cast("Any", log), checkpoint, lambda done, total: None)
        why = await usage.resume("", from_ms, why_anew)
        await usage.fold_to_end()
        folded = checkpoint.sums(checkpoint.organizations())
        return {
            org: sum(sums["requests"] for sums in hours.values()) for org, hours in folded.items()
        }, why


async def test_the_second_reading_begins_where_the_first_ended(tmp_path: Path) -> None:
    """At the last record that was folded, which proves that it is the same log."""
    log = Log([value("a"), value("b"), value("c")], [value("d", org="globex")])
    assert await fold(tmp_path, log) == ({"acme": 3, "globex": 1}, "there was none")
    log.partitions[0].append(value("e"))
    log.read.clear()

    assert await fold(tmp_path, log) == ({"acme": 4, "globex": 1}, None)
    assert sorted(log.read) == [(0, 2), (0, 3), (1, 0)]


async def test_a_line_that_is_appended_again_counts_once(tmp_path: Path) -> None:
    """Within one reading and across two."""
    log = Log([value("a"), value("a")], [])
    assert (await fold(tmp_path, log))[0] == {"acme": 1}
    log.partitions[0] += [value("a"), value("b"), value("b")]

    assert (await fold(tmp_path, log))[0] == {"acme": 2}


async def test_a_reading_that_was_cut_goes_on_without_counting_twice(tmp_path: Path) -> None:
    """What it had committed stays, of the rest nothing."""
    log = Log([value(str(number)) for number in range(9)], [])
    with open_checkpoint(tmp_path, DAY_MS) as checkpoint:
        usage = UsageLog(cast("Any", log), checkpoint, lambda done, total: None)
        await usage.resume("", DAY_MS, None)
        for _ in range(2):
            batches = await log.getmany(timeout_ms=0, max_records=0)
            usage._take(0, batches[TopicPartition(USAGE_RECORDS, 0)])
            usage._commit()
        usage._take(0, (await log.getmany(timeout_ms=0, max_records=0)).popitem()[1])
    log.read.clear()

    assert await fold(tmp_path, log) == ({"acme": 9}, None)
    assert min(log.read) == (0, 3)


async def test_a_partition_that_was_empty_is_read_from_its_beginning(tmp_path: Path) -> None:
    """It has no witness, and needs none."""
    log = Log([value("a")], [])
    await fold(tmp_path, log)
    log.partitions[1] += [value("b"), value("c")]

    assert await fold(tmp_path, log) == ({"acme": 3}, None)


async def test_reading_begins_at_the_time_that_is_compared(tmp_path: Path) -> None:
    """One record earlier, as a witness; what was appended before that is not read."""
    log = Log([value(str(number)) for number in range(20)], [])

    await fold(tmp_path, log, from_ms=DAY_MS + 15)

    assert min(log.read) == (0, 14)


async def test_a_topic_that_was_made_anew_is_read_anew(tmp_path: Path) -> None:
    """Also when it has grown beyond the place of the old one by then."""
    await fold(tmp_path, Log([value("a"), value("b")], []))
    shorter = Log([value("x")], [])
    longer = Log([value("x"), value("y"), value("z")], [])

    with open_checkpoint(tmp_path, DAY_MS) as checkpoint:
        usage = UsageLog(cast("Any", longer), checkpoint, lambda done, total: None)
        assert await usage.resume("", DAY_MS, None) is None
        with pytest.raises(LogReplaced):
            await usage.fold_to_end()
    sums, why = await fold(tmp_path, shorter)
    assert (sums, why is not None and "made anew" in why) == ({"acme": 1}, True)


async def test_retention_that_passed_the_checkpoint_is_told(tmp_path: Path) -> None:
    """Records may be missing between the two, so nothing of before is used."""
    log = Log([value("a"), value("b"), value("c"), value("d")], [])
    await fold(tmp_path, Log(log.partitions[0][:2], []))
    log.begins[0] = 3

    sums, why = await fold(tmp_path, log)

    assert (sums, why is not None and "retention" in why) == ({"acme": 1}, True)


async def test_everything_is_read_anew_when_that_is_asked_for(tmp_path: Path) -> None:
    """Whatever the checkpoint says."""
    log = Log([value("a"), value("b")], [])
    await fold(tmp_path, log)
    log.read.clear()

    assert await fold(tmp_path, log, why_anew="asked for") == ({"acme": 2}, "asked for")
    assert sorted(log.read) == [(0, 0), (0, 1)]


async def test_lines_of_later_outcomes_are_left_out_of_what_is_compared(tmp_path: Path) -> None:
    """Tables were read when an earlier one was the last that was booked."""
    log = Log([value("a", outcome=_place(7))], [])
    with open_checkpoint(tmp_path, DAY_MS) as checkpoint:
        usage = UsageLog(cast("Any", log), checkpoint, lambda done, total: None)
        await usage.resume("", DAY_MS, None)
        await usage.fold_to_end()
        usage.remember()
        log.partitions[0] += [value(name, outcome=_place(at)) for name, at in (("b", 8), ("c", 9))]
        log.partitions[1] += [value("d", org="globex", outcome=_place(3))]
        await usage.fold_to_end()

        until = [usage.sums_until("acme", at, [HOUR])[HOUR]["requests"] for at in (7, 8, 9)]
        whole = usage.sums_until("acme", 9, [HOUR])

        assert until == [1, 2, 3]
        assert whole == checkpoint.sums(["acme"])["acme"]


def _place(offset: int) -> RecordRef:
    return RecordRef(topic="inference.outcomes.v1", partition=0, offset=offset)


async def test_what_is_no_usage_line_is_counted_and_passed(tmp_path: Path) -> None:
    """It ends no verification."""
    log = Log([value("a"), b"garbage", None, value("b")], [])

    with open_checkpoint(tmp_path, DAY_MS) as checkpoint:
        usage = UsageLog(cast("Any", log), checkpoint, lambda done, total: None)
        await usage.resume("", DAY_MS, None)
        await usage.fold_to_end()

        assert (checkpoint.lines, checkpoint.malformed) == (2, 2)
