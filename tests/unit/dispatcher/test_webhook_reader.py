"""Which offsets are committed, on a consumer in memory: only of what is durable, and of that all."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, Final, cast

import msgspec
import pytest
from aiokafka import ConsumerRecord, TopicPartition
from aiokafka.structs import OffsetAndMetadata

from dispatcher.webhooks import reader
from dispatcher.webhooks.delivering import Deliveries
from dispatcher.webhooks.reader import WebhookReader
from schemas.codec import decode_as, encode
from schemas.config_state import Snapshot
from schemas.entities import Organization
from schemas.events import RequestFinished, WebhookMessage
from schemas.job_facts import JobFacts
from schemas.outgoing import Outgoing
from schemas.runtime.kafka.produce import ProduceFailed
from schemas.runtime.process.clock import Clock
from schemas.topics import OUTCOMES, WEBHOOKS
from schemas.webhook_messages import new_message
from schemas.webhooks import Webhooks
from tests.support.event_samples import SAMPLES

_OUTBOX: Final = TopicPartition(WEBHOOKS, 0)
_ENDS: Final = TopicPartition(OUTCOMES, 0)
_NOW_MS: Final = Clock().now_ms()


@dataclass
class _Group:
    """The consumer, and what its group committed."""

    waiting: deque[dict[TopicPartition, list[ConsumerRecord]]] = field(default_factory=deque)
    commits: dict[TopicPartition, Any] = field(default_factory=dict)
    paused: set[TopicPartition] = field(default_factory=set)
    listener: Any = None
    is_stopped: bool = False
    since: int | None = None
    """The first offset of the last minute."""
    sought: dict[TopicPartition, int] = field(default_factory=dict)

    @property
    def _coordinator(self) -> Any:
        async def fetch(_: Sequence[TopicPartition]) -> dict[TopicPartition, OffsetAndMetadata]:
            return {p: c for p, c in self.commits.items() if isinstance(c, OffsetAndMetadata)}

        return SimpleNamespace(fetch_committed_offsets=fetch)

    def subscribe(self, _: Sequence[str], listener: Any) -> None:
        self.listener = listener

    async def start(self) -> None:
        await self.listener.on_partitions_assigned(list(self.assignment()))

    async def stop(self) -> None:
        self.is_stopped = True

    async def getmany(self, **_: Any) -> dict[TopicPartition, list[ConsumerRecord]]:
        await asyncio.sleep(0.001)
        return self.waiting.popleft() if self.waiting else {}

    async def offsets_for_times(
        self, asked: dict[TopicPartition, int]
    ) -> dict[TopicPartition, Any]:
        return {
            p: None if self.since is None else SimpleNamespace(offset=self.since) for p in asked
        }

    async def end_offsets(self, asked: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(asked, 9)

    def seek(self, partition: TopicPartition, at: int) -> None:
        self.sought[partition] = at

    def assignment(self) -> set[TopicPartition]:
        return {_OUTBOX, _ENDS}

    def pause(self, partition: TopicPartition) -> None:
        self.paused.add(partition)

    def resume(self, partition: TopicPartition) -> None:
        self.paused.discard(partition)

    async def commit(self, offsets: dict[TopicPartition, Any]) -> None:
        self.commits |= offsets

    def offset(self, partition: TopicPartition) -> int | None:
        committed = self.commits.get(partition)
        return committed.offset if isinstance(committed, OffsetAndMetadata) else committed


@dataclass
class _Parts:
    """What delivers, and what produces: each message until it is let go."""

    under_way: dict[str, asyncio.Future[None]] = field(default_factory=dict)
    produced: list[WebhookMessage] = field(default_factory=list)
    fails: bool = False
    is_anybody_told: bool = True

    @property
    def producer(self) -> Any:
        async def deliver(records: Sequence[Outgoing], _: float) -> None:
            if self.fails:
                raise ProduceFailed("away")
            self.produced += [decode_as(record.value, WebhookMessage) for record in records]

        return SimpleNamespace(deliver=deliver)

    @property
    def clock(self) -> Clock:
        return Clock()

    def config(self) -> Snapshot:
        if not self.is_anybody_told:
            return Snapshot(offset=1)
        hooks = Webhooks(url="https://a.example/hook")
        return Snapshot(organizations={"acme": Organization(webhooks=hooks)})

    async def deliver(self, message: WebhookMessage, *_: Any) -> None:
        held = asyncio.get_running_loop().create_future()
        self.under_way[message.message_id] = held
        await held


def _record(place: TopicPartition, offset: int, value: bytes, org: str = "acme") -> ConsumerRecord:
    return ConsumerRecord(
        *(place.topic, place.partition, offset, _NOW_MS, 1, org.encode(), value, None, 4),
        *(len(value), []),
    )


def _message(number: int) -> WebhookMessage:
    return new_message("acme", "job.completed", f"r{number}", _NOW_MS, {})


def _outbox(*numbers: int) -> dict[TopicPartition, list[ConsumerRecord]]:
    return {_OUTBOX: [_record(_OUTBOX, each, encode(_message(each))) for each in numbers]}


def _ended(org: str = "acme") -> bytes:
    sample = cast("RequestFinished", SAMPLES["RequestFinished"])
    job = JobFacts("echo", 1).encoded()
    return encode(msgspec.structs.replace(sample, org=org, job=job, finished_at_ms=_NOW_MS))


@pytest.fixture(autouse=True)
def _commits_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "_COMMIT_EVERY_S", 0.0)


@asynccontextmanager
async def _running(
    group: _Group, parts: _Parts, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[asyncio.Task[None]]:
    """The reader until the block is left, as a kill would leave it."""
    group.is_stopped = False
    monkeypatch.setattr(reader, "AIOKafkaConsumer", lambda **_: group)
    running = asyncio.create_task(
        WebhookReader("h:1", cast("Deliveries", parts), lambda: True).run()
    )
    try:
        yield running
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError, ProduceFailed):
            await running
    assert group.is_stopped


async def _until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not holds():  # noqa: ASYNC110  # what is waited for happens in other tasks
            await asyncio.sleep(0.001)


def _let_go(parts: _Parts, *numbers: int) -> None:
    for number in numbers:
        parts.under_way.pop(_message(number).message_id).set_result(None)


async def test_an_offset_is_committed_once_its_message_and_all_before_it_are_done(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One that takes long keeps the offset, and is read again after a kill."""
    group, parts = _Group(deque([_outbox(0, 1, 2)])), _Parts()
    async with _running(group, parts, monkeypatch):
        await _until(lambda: len(parts.under_way) == 3)
        assert group.offset(_OUTBOX) is None
        _let_go(parts, 0)
        await _until(lambda: group.offset(_OUTBOX) == 1)
        _let_go(parts, 2)
        await asyncio.sleep(0.02)
        assert group.offset(_OUTBOX) == 1


async def test_what_was_done_beyond_a_slow_one_is_not_delivered_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The commit carries it to whoever has the partition next."""
    group, parts = _Group(deque([_outbox(0, 1, 2)])), _Parts()
    async with _running(group, parts, monkeypatch):
        await _until(lambda: len(parts.under_way) == 3)
        _let_go(parts, 1, 2)
        await _until(lambda: group.offset(_OUTBOX) == 0)
    group.waiting.append(_outbox(0, 1, 2))
    after = _Parts()
    async with _running(group, after, monkeypatch):
        await _until(lambda: len(after.under_way) == 1)
        await asyncio.sleep(0.02)

        assert list(after.under_way) == [_message(0).message_id]


async def test_what_ended_is_in_the_outbox_before_its_offset_goes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of organizations without webhooks nothing is made."""
    ended = [_record(_ENDS, 7, _ended()), _record(_ENDS, 8, _ended("other"), "other")]
    group, parts = _Group(deque([{_ENDS: ended}])), _Parts()
    async with _running(group, parts, monkeypatch):
        await _until(lambda: group.offset(_ENDS) == 9)

    (made,) = parts.produced
    assert (made.org, made.type.partition(".")[0]) == ("acme", "job")


async def test_where_the_log_is_away_nothing_is_committed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The run ends, and the next one reads again."""
    group, parts = _Group(deque([{_ENDS: [_record(_ENDS, 7, _ended())]}])), _Parts(fails=True)
    async with _running(group, parts, monkeypatch) as running:
        await asyncio.wait({running}, timeout=5)

        assert isinstance(running.exception(), ProduceFailed)
    assert group.offset(_ENDS) is None


async def test_a_delivery_that_is_not_durable_ends_the_run_and_keeps_its_offset(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its message could not be put where it waits."""
    group, parts = _Group(deque([_outbox(0, 1)])), _Parts()
    async with _running(group, parts, monkeypatch) as running:
        await _until(lambda: len(parts.under_way) == 2)
        parts.under_way[_message(0).message_id].set_exception(ProduceFailed("away"))
        await asyncio.wait({running}, timeout=5)

        assert isinstance(running.exception(), ProduceFailed)
    assert group.offset(_OUTBOX) is None


async def test_a_record_that_is_no_message_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those behind it are delivered."""
    odd = {_OUTBOX: [_record(_OUTBOX, 0, b"nonsense")]}
    group, parts = _Group(deque([odd, _outbox(1)])), _Parts()
    async with _running(group, parts, monkeypatch):
        await _until(lambda: group.offset(_OUTBOX) == 1)
        await _until(lambda: len(parts.under_way) == 1)


async def test_a_partition_with_much_under_way_is_read_no_further(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Until half of it is done."""
    group, parts = _Group(deque([_outbox(*range(256))])), _Parts()
    async with _running(group, parts, monkeypatch):
        await _until(lambda: group.paused == {_OUTBOX})
        await _until(lambda: len(parts.under_way) == 256)
        _let_go(parts, *range(128))
        await _until(lambda: group.paused == set())


async def test_a_reader_that_is_stopped_commits_and_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is under way is delivered by whoever has the partition next."""
    group, parts = _Group(deque([_outbox(0, 1)])), _Parts()
    monkeypatch.setattr(reader, "AIOKafkaConsumer", lambda **_: group)
    told = WebhookReader("h:1", cast("Deliveries", parts), lambda: True)
    running = asyncio.create_task(told.run())
    await _until(lambda: len(parts.under_way) == 2)
    _let_go(parts, 0)
    await _until(lambda: len(told._tasks) == 1)  # its end is seen nowhere else before the stop

    await told.stop()

    assert group.is_stopped
    assert group.offset(_OUTBOX) == 1
    running.cancel()
    await asyncio.wait({running})


async def test_nothing_is_read_while_nobody_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """The log of an installation without webhooks is not read a second time."""
    parts, begun = _Parts(is_anybody_told=False), list[_Group]()

    def consumer(**_: Any) -> _Group:
        begun.append(_Group())
        return begun[-1]

    monkeypatch.setattr(reader, "_LOOK_AGAIN_S", 0.001)
    monkeypatch.setattr(reader, "AIOKafkaConsumer", consumer)
    running = asyncio.create_task(
        WebhookReader("h:1", cast("Deliveries", parts), lambda: True).run()
    )
    await asyncio.sleep(0.02)
    has_waited = not begun
    parts.is_anybody_told = True
    await _until(lambda: bool(begun))
    running.cancel()
    await asyncio.wait({running})

    assert has_waited


@pytest.mark.parametrize(("since", "begins_at"), [(7, 7), (None, 9)])
async def test_who_is_told_for_the_first_time_is_told_of_what_happens_from_then_on(
    monkeypatch: pytest.MonkeyPatch, since: int | None, begins_at: int
) -> None:
    """That place is committed, so that a kill before the first record changes nothing; one that the group has stays."""
    group, parts = _Group(since=since), _Parts()
    async with _running(group, parts, monkeypatch):
        await _until(lambda: group.offset(_ENDS) == begins_at)
    first = dict(group.sought)
    group.commits[_ENDS] = OffsetAndMetadata(begins_at, "")
    group.sought.clear()
    async with _running(group, parts, monkeypatch):
        await asyncio.sleep(0.02)

    assert (first, group.sought) == ({_ENDS: begins_at}, {})
