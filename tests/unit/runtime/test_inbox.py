"""The consume loop: natural batches, one defect ends one record, and nothing is held after its end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import pytest
from faust.types import TP

from schemas.failures import Transient
from schemas.runtime.kafka.consume.faust_app import WorkerApp
from schemas.runtime.kafka.consume.flow import Bounds
from schemas.runtime.kafka.consume.inbox import Handler, Inbox, OnDefect
from schemas.runtime.kafka.consume.records import Record

_TOPIC = "inference.requests.v1"


class _Exit(BaseException):
    """Stands for the end of the process."""


@pytest.fixture(autouse=True)
def _no_exit(monkeypatch: pytest.MonkeyPatch) -> None:
    def end(status: int) -> None:
        raise _Exit(status)

    monkeypatch.setattr("os._exit", end)


@dataclass
class _App:
    """As much of a Faust app as an inbox uses."""

    consumer_generation_id: int = 1
    windows: dict[str, Any] = field(default_factory=dict)
    tasks: list[Callable[[], Any]] = field(default_factory=list)
    paused: set[TP] = field(default_factory=set)
    held: dict[Any, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.on_partitions_revoked = SimpleNamespace(connect=lambda *_, **__: None)
        self.on_partitions_assigned = SimpleNamespace(connect=lambda *_, **__: None)
        self.direct_consumer = SimpleNamespace(
            pause_reading=self.paused.add,
            resume_reading=self.paused.discard,
            hold=self.held.__setitem__,
        )
        self.task = self.tasks.append

    def topic(self, name: str, **_: Any) -> str:
        return name

    def agent(self, source: str, name: str) -> Callable[[Any], None]:
        return lambda take: None


class _Stream:
    """Events as Faust hands them over, each a list of two records."""

    def __init__(self, messages: list[Any]) -> None:
        self._messages = messages

    def noack(self) -> _Stream:
        return self

    async def events(self) -> AsyncIterator[Any]:
        for at in range(0, len(self._messages), 2):
            message = SimpleNamespace(generation_id=1)
            yield SimpleNamespace(message=message, value=self._messages[at : at + 2])


def _message(offset: int, value: bytes = b"x", partition: int = 0) -> Any:
    return SimpleNamespace(
        topic=_TOPIC,
        partition=partition,
        offset=offset,
        timestamp=1_500,
        key=b"k",
        value=value,
        headers=[("h", b"v")],
    )


async def _run(
    handler: Handler, values: list[bytes], on_defect: OnDefect | None = None, **more: Any
) -> Inbox:
    """Deliver the values, and let the loop turn until nothing is left to do."""
    app = _App()
    inbox = Inbox(cast("WorkerApp", app), _TOPIC, handler, on_defect=on_defect, **more)
    pump = asyncio.create_task(app.tasks[0]())
    stream = _Stream([_message(offset, value) for offset, value in enumerate(values)])
    await inbox._take(cast("Any", stream))
    for _ in range(200):
        await asyncio.sleep(0)
    await inbox.wait_for_batches(2.0)
    pump.cancel()
    return inbox


def _failing(bad: bytes, error: BaseException) -> tuple[Handler, list[list[bytes | None]]]:
    """A handler that fails at a value, after it finished those before it."""
    batches: list[list[bytes | None]] = []

    async def handle(batch: list[Record]) -> None:
        batches.append([record.value for record in batch])
        for record in batch:
            if record.value == bad:
                raise error
            record.finish()

    return handle, batches


async def test_what_arrived_meanwhile_is_one_batch() -> None:
    """In the order of the partition."""
    handler, batches = _failing(b"none", ValueError())
    inbox = await _run(handler, [b"a", b"b", b"c"])

    assert batches == [[b"a", b"b", b"c"]]
    assert inbox.window.to_commit()[_TOPIC, 0].offset == 3


@pytest.mark.parametrize("error", [ValueError("odd"), KeyError("x"), asyncio.CancelledError()])
async def test_a_defect_ends_its_record_and_no_other(error: BaseException) -> None:
    """Whatever the handler raises, its neighbours are handled, and each only until it is finished."""
    ended: list[tuple[bytes | None, Exception]] = []

    async def on_defect(record: Record, failure: Exception) -> None:
        ended.append((record.value, failure))

    handler, batches = _failing(b"bad", error)
    values = [b"a", b"b", b"bad", b"c", b"d", b"e"]
    inbox = await _run(handler, values, on_defect)

    assert [value for value, _ in ended] == [b"bad"]
    assert inbox.window.to_commit()[_TOPIC, 0].offset == 6
    assert inbox.window.records == 0
    handled = [value for batch in batches for value in batch if value != b"bad"]
    assert {value: handled.count(value) for value in handled}[b"a"] == 1


async def test_every_culprit_of_a_batch_is_found() -> None:
    """Two of them, apart from each other."""
    ended: list[bytes | None] = []

    async def on_defect(record: Record, _: Exception) -> None:
        ended.append(record.value)

    async def handle(batch: list[Record]) -> None:
        if any((record.value or b"").startswith(b"bad") for record in batch):
            raise ValueError
        for record in batch:
            record.finish()

    values = [b"a", b"bad1", b"c", b"d", b"bad2", b"f", b"g"]
    inbox = await _run(handle, values, on_defect)

    assert ended == [b"bad1", b"bad2"]
    assert inbox.window.to_commit()[_TOPIC, 0].offset == 7


async def test_what_was_merely_away_is_tried_again() -> None:
    """A transient failure is nobody's defect."""
    tries: list[int] = []

    async def handle(batch: list[Record]) -> None:
        tries.append(len(batch))
        if len(tries) == 1:
            raise Transient("the store is away")
        for record in batch:
            record.finish()

    app = _App()
    inbox = Inbox(cast("WorkerApp", app), _TOPIC, handle)
    await inbox._take(cast("Any", _Stream([_message(0), _message(1)])))
    await inbox._run(inbox._lanes.take())

    assert tries == [2, 2]
    assert inbox.window.records == 0


async def test_where_no_record_may_be_skipped_a_defect_ends_the_process() -> None:
    """Accounting: a skipped outcome is lost money."""
    handler, _ = _failing(b"bad", ValueError())
    app = _App()
    inbox = Inbox(cast("WorkerApp", app), _TOPIC, handler)
    await inbox._take(cast("Any", _Stream([_message(0, b"bad")])))

    with pytest.raises(_Exit):
        await inbox._run(inbox._lanes.take())


async def test_a_finished_record_holds_no_bytes() -> None:
    """Though it may wait long for the slow one before it."""
    kept: list[Record] = []

    async def handle(batch: list[Record]) -> None:
        kept.extend(batch)

    inbox = await _run(handle, [b"slow", b"quick"])
    before = kept[1].headers
    kept[1].finish()
    kept[1].finish()

    assert before == {"h": b"v"}
    assert (kept[1].value, kept[1].key, kept[1].headers) == (None, None, {})
    assert inbox.window.records == 1
    assert inbox.window.to_commit()[_TOPIC, 0].offset == 0


async def test_a_partition_at_its_bound_is_paused_until_its_records_end() -> None:
    """By what is under way."""
    kept: list[Record] = []

    async def handle(batch: list[Record]) -> None:
        kept.extend(batch)

    app = _App()
    inbox = Inbox(cast("WorkerApp", app), _TOPIC, handle, bounds=Bounds(records_max=8))
    await inbox._take(cast("Any", _Stream([_message(0), _message(1)])))
    await inbox._run(inbox._lanes.take())
    assert app.paused == {TP(_TOPIC, 0)}
    for record in kept:
        record.finish()

    assert app.paused == set()


async def test_records_that_wait_for_a_handler_are_dropped_when_their_partition_goes() -> None:
    """Its next owner reads them; here they would be handled twice."""
    handler, batches = _failing(b"none", ValueError())
    app = _App()
    inbox = Inbox(cast("WorkerApp", app), _TOPIC, handler)
    await inbox._take(cast("Any", _Stream([_message(0), _message(1)])))
    app.consumer_generation_id = 2
    await inbox._on_rebalance()
    pump = asyncio.create_task(app.tasks[0]())
    await asyncio.sleep(0.01)
    pump.cancel()

    assert batches == []
    assert inbox.window.records == 0


async def test_a_gap_in_the_offsets_ends_the_process() -> None:
    """Only a restart reads again what was skipped."""
    handler, _ = _failing(b"none", ValueError())
    inbox = Inbox(cast("WorkerApp", _App()), _TOPIC, handler)

    with pytest.raises(_Exit):
        await inbox._take(cast("Any", _Stream([_message(0), _message(2)])))


_NEWER = b"\x00\x00\x00\x03\xe7newer"


async def test_a_record_of_a_newer_schema_stops_its_partition_in_order() -> None:
    """What came before it is handled and committed; it and what follows are left for a newer version, which
    is no defect, no dead letter, and nothing that the watchdog counts."""
    handler, batches = _failing(b"none", ValueError())
    app = _App()
    inbox = Inbox(cast("WorkerApp", app), _TOPIC, handler)
    messages = [_message(0, b"a"), _message(1, _NEWER), _message(2, b"b")]
    other = _message(0, b"other", partition=1)
    await inbox._take(cast("Any", _Stream([*messages, other])))
    await inbox._run(inbox._lanes.take())

    assert batches == [[b"a", b"other"]]
    assert set(app.held) == {(_TOPIC, 0)}
    assert app.held[_TOPIC, 0].startswith("unknown_schema: id 999")
    assert inbox.paused == app.held
    assert {p: at.offset for p, at in inbox.window.to_commit().items()} == {
        (_TOPIC, 0): 1,
        (_TOPIC, 1): 1,
    }
    assert inbox.window.oldest_age_s(1e9) == 0


async def test_a_record_that_its_handler_holds_stays_unfinished() -> None:
    """Whatever is done with it afterwards."""

    async def handle(batch: list[Record]) -> None:
        for record in batch:
            if record.value == b"held":
                record.hold("unknown_schema: inside")
            record.finish()

    app = _App()
    inbox = Inbox(cast("WorkerApp", app), _TOPIC, handle)
    await inbox._take(cast("Any", _Stream([_message(0, b"held"), _message(1, b"b")])))
    await inbox._run(inbox._lanes.take())

    mark = inbox.window.to_commit()[_TOPIC, 0]
    assert (mark.offset, mark.runs) == (0, ((1, 2),))
    assert app.held == {(_TOPIC, 0): "unknown_schema: inside, at offset 0"}


async def test_a_partition_whose_batch_waits_keeps_no_other_waiting() -> None:
    """Each has batches of its own, one at a time and in order; what waits is named, and excused."""
    opened = asyncio.Event()
    waits: dict[Any, str] = {}
    batches: list[tuple[int, list[bytes | None]]] = []

    async def handle(batch: list[Record]) -> None:
        batches.append((batch[0].partition, [record.value for record in batch]))
        if batch[0].partition == 0 and not opened.is_set():
            waits[_TOPIC, 0] = "its shard is closed"
            await opened.wait()
            waits.clear()
        for record in batch:
            record.finish()

    app = _App()
    inbox = Inbox(cast("WorkerApp", app), _TOPIC, handle, by_partition=True, waits=waits)
    pump = asyncio.create_task(app.tasks[0]())

    async def deliver(*messages: Any) -> None:
        await inbox._take(cast("Any", _Stream(list(messages))))
        for _ in range(20):
            await asyncio.sleep(0)

    await deliver(_message(0, b"a0"), _message(0, b"b0", 1))
    await deliver(_message(1, b"a1"), _message(1, b"b1", 1))
    await deliver(_message(2, b"a2"), _message(2, b"b2", 1))
    assert batches == [(0, [b"a0"]), (1, [b"b0"]), (1, [b"b1"]), (1, [b"b2"])]
    assert inbox.window.load_of((_TOPIC, 1)).records == 0
    assert inbox.paused == {(_TOPIC, 0): "its shard is closed"}
    assert inbox.excused == {(_TOPIC, 0)}

    opened.set()
    await inbox.wait_for_batches(2.0)
    await deliver()
    pump.cancel()

    assert batches[4:] == [(0, [b"a1", b"a2"])]
    assert {p: at.offset for p, at in inbox.window.to_commit().items()} == {
        (_TOPIC, 0): 3,
        (_TOPIC, 1): 3,
    }
    assert not inbox.paused


async def test_a_batch_that_waits_for_a_partition_of_somebody_else_says_nothing() -> None:
    """After a rebalance the partition is another process's, and its cause too."""
    waits = {(_TOPIC, 0): "its shard is closed"}
    app = _App()
    handler, _ = _failing(b"none", ValueError())
    inbox = Inbox(cast("WorkerApp", app), _TOPIC, handler, by_partition=True, waits=waits)
    await inbox._take(cast("Any", _Stream([_message(0)])))
    assert inbox.paused == waits
    app.consumer_generation_id = 2
    await inbox._on_rebalance()

    assert not inbox.paused
    assert not inbox.excused
