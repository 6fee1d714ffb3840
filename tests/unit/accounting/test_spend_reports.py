"""Spend is told until it is taken, and one line that is refused costs no other."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest
from aiokafka import TopicPartition

from accounting import spend_reports
from accounting.spend_reports import SpendReports
from schemas.budget_service import LINES_MAX, Spend, SpendLine, spend_balance
from schemas.codec import encode
from schemas.events import Booking
from schemas.runtime.budget_service import ServiceSilent
from schemas.runtime.process.clock import Clock
from schemas.runtime.process.telemetry import Metrics
from schemas.runtime.valkey.store import StoreUnavailable
from schemas.topics import OUTCOMES
from tests.support.event_samples import SAMPLES
from tests.support.events import attempt, finished

ZERO, ONE = TopicPartition(OUTCOMES, 0), TopicPartition(OUTCOMES, 1)


@dataclass
class Ledger:
    """Counts each id once, as the contract wants it."""

    refuses: set[str] = field(default_factory=set)
    too_large: int = LINES_MAX
    silent: int = 0
    status: int = 204
    counted: dict[str, str] = field(default_factory=dict)
    calls: list[int] = field(default_factory=list)

    async def post(self, path: str, body: bytes) -> tuple[int, bytes]:
        lines = msgspec.json.decode(body, type=Spend).lines
        self.calls.append(len(lines))
        if self.silent:
            self.silent -= 1
            if self.silent % 2:
                return 503, b""
            raise ServiceSilent("gone")
        if len(lines) > self.too_large:
            return 413, b""
        if any(line.id in self.refuses for line in lines):
            return 422, b""
        for line in lines:
            self.counted.setdefault(line.id, line.spent_usd)
        return self.status, b""


def _reports(service: Ledger) -> SpendReports:
    nothing = cast("Any", None)
    return SpendReports("", cast("Any", service), nothing, Clock(), Metrics())


def _lines(count: int) -> list[SpendLine]:
    facts: dict[str, Any] = {"org": "acme", "project": None, "key": "k", "user": None}
    return [
        SpendLine(id=f"r{n}", request_id=f"r{n}", model="m", spent_usd="1", at_ms=n, **facts)
        for n in range(count)
    ]


async def test_all_lines_go_out_in_order_and_in_bounded_calls() -> None:
    service = Ledger(status=200)
    await _reports(service).tell(_lines(LINES_MAX + 7))

    assert list(service.counted) == [line.id for line in _lines(LINES_MAX + 7)]
    assert service.calls == [LINES_MAX, 7]


async def test_what_is_not_taken_is_told_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Until it is: neither silence nor a 503 loses a line, and readiness says so meanwhile."""
    monkeypatch.setattr(spend_reports, "_PAUSE_FIRST_S", 0.001)
    service = Ledger(silent=5)
    reports = _reports(service)
    await reports.tell(_lines(3))

    assert len(service.counted) == 3
    assert service.calls == [3] * 6
    assert reports.components() == {"spend": "ok"}


async def test_a_line_that_is_refused_is_passed_over_alone() -> None:
    """Found by halves; what stands beside it is counted."""
    service = Ledger(refuses={"r5"})
    await _reports(service).tell(_lines(16))

    assert set(service.counted) == {f"r{n}" for n in range(16)} - {"r5"}


async def test_what_is_too_large_together_goes_in_parts() -> None:
    service = Ledger(too_large=2)
    await _reports(service).tell(_lines(7))

    assert len(service.counted) == 7


@dataclass
class Consumer:
    """Two partitions of outcomes, and what was committed of them."""

    records: list[list[SimpleNamespace]] = field(default_factory=list)
    at: dict[TopicPartition, int] = field(default_factory=lambda: {ZERO: 0, ONE: 0})
    committed: dict[TopicPartition, int] = field(default_factory=dict)

    async def getmany(self, **_: Any) -> dict[TopicPartition, list[SimpleNamespace]]:
        found: dict[TopicPartition, list[SimpleNamespace]] = {}
        for record in self.records.pop(0) if self.records else ():
            partition = TopicPartition(record.topic, record.partition)
            found.setdefault(partition, []).append(record)
            self.at[partition] = record.offset + 1
        return found

    def assignment(self) -> set[TopicPartition]:
        return set(self.at)

    async def position(self, partition: TopicPartition) -> int:
        return self.at[partition]

    async def commit(self, offsets: dict[TopicPartition, int]) -> None:
        self.committed |= offsets


@dataclass
class Shard:
    """The store, as far as the reporter says something there."""

    is_away: bool = False
    said: dict[str, tuple[int, int]] = field(default_factory=dict)

    def call(self, *command: Any) -> asyncio.Future[Any]:
        done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        if self.is_away:
            done.set_exception(StoreUnavailable("away"))
            return done
        name, _, _, key, offset, returned = command
        assert name == "EVAL"
        self.said[key] = offset, returned
        done.set_result(None)
        return done


class SetClock(Clock):
    """Monotonic time as a test sets it."""

    now_s = 100.0

    def monotonic_s(self) -> float:
        return self.now_s


def _record(event: Any, offset: int, partition: int = 0) -> SimpleNamespace:
    return SimpleNamespace(topic=OUTCOMES, partition=partition, offset=offset, value=encode(event))


def _outcome(request: str, amount: int) -> Any:
    booked = Booking(key=spend_balance("org"), unit="nano_usd", amount=amount)
    return finished([attempt()], [booked], request_id=request)


def _taken_back(request: str, amount: int) -> Any:
    booked = Booking(key=spend_balance("org"), unit="nano_usd", amount=-amount)
    return msgspec.structs.replace(
        SAMPLES["AttemptAdjusted"], request_id=request, bookings=[booked], org="acme"
    )


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spend_reports, "_TOGETHER_S", 0.0)


async def test_what_was_told_is_committed_and_said_where_the_limiter_reads_it(quick: None) -> None:
    """Only once the service has it, and for each partition."""
    service, shard, clock = Ledger(), Shard(), SetClock()
    reports = SpendReports("", cast("Any", service), cast("Any", shard), clock, Metrics())
    consumer = Consumer([[_record(_outcome("r1", 5), 7), _record(_outcome("r2", 6), 3, 1)]])
    await reports._turn(cast("Any", consumer))

    assert service.counted == {"r1": "0.000000005", "r2": "0.000000006"}
    assert shard.said == {"{0}|reported": (8, -1), "{1}|reported": (4, -1)}
    assert consumer.committed == {ZERO: 8, ONE: 4}


async def test_what_is_taken_back_is_announced_and_told_later(quick: None) -> None:
    """Ten seconds after the store has the announcement: by then nobody goes by the sum before."""
    service, shard, clock = Ledger(), Shard(is_away=True), SetClock()
    reports = SpendReports("", cast("Any", service), cast("Any", shard), clock, Metrics())
    log = [
        [_record(_outcome("r1", 5), 0), _record(_taken_back("r1", 2), 1)],
        [_record(_outcome("r2", 9), 2)],
    ]
    consumer = Consumer(log)
    for _ in range(3):
        await reports._turn(cast("Any", consumer))
        clock.now_s += 60
    assert list(service.counted) == ["r1", "r2"]
    assert consumer.committed[ZERO] == 1

    shard.is_away = False
    for _ in range(3):
        await reports._turn(cast("Any", consumer))
        assert shard.said["{0}|reported"] == (3, 1)
        clock.now_s += 4
    assert list(service.counted) == ["r1", "r2"]
    await reports._turn(cast("Any", consumer))
    assert list(service.counted.values()) == ["0.000000005", "0.000000009", "-0.000000002"]
    assert consumer.committed[ZERO] == 3


async def test_a_partition_that_was_given_away_is_told_by_its_next_owner(quick: None) -> None:
    """What it takes back, too."""
    service, shard, clock = Ledger(), Shard(), SetClock()
    reports = SpendReports("", cast("Any", service), cast("Any", shard), clock, Metrics())
    consumer = Consumer([[_record(_taken_back("r1", 2), 1)]])
    await reports._turn(cast("Any", consumer))
    del consumer.at[ZERO]
    for _ in range(3):
        clock.now_s += 20
        await reports._turn(cast("Any", consumer))

    assert service.counted == {}
    assert reports._returned == []
