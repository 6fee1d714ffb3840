"""What was fetched is delivered in lists, by topic, and nothing of it that a rebalance makes another's."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import MagicMock

import pytest
from aiokafka.errors import KafkaError
from faust.transport.utils import DefaultSchedulingStrategy as TakingTurns
from faust.types import TP

from schemas.runtime.kafka.consume import delivery
from schemas.runtime.kafka.consume.delivery import DirectConsumer
from schemas.runtime.kafka.consume.record_lists import RecordLists, list_message

_A0, _A1, _B0 = TP("a", 0), TP("a", 1), TP("b", 0)


class _Consumer(DirectConsumer):
    """Only its deliveries: Faust's own construction needs an app and a broker."""

    def __init__(self, fetched: dict[TP, list[int]]) -> None:
        self.app = SimpleNamespace(consumer_generation_id=7, held={})
        self.flow_active = True
        self.suspend_flow = cast("Any", SimpleNamespace(is_set=lambda: not self.flow_active))
        self.scheduler = TakingTurns()  # type: ignore[abstract]  # as Faust makes it
        self._read_offset = dict.fromkeys(fetched)
        self._active_partitions, self._buffered_partitions = set(fetched), set()
        self.starts = cast("Any", SimpleNamespace(waiting=set()))
        self.fetched = {
            tp: [_record(tp, offset) for offset in offsets] for tp, offsets in fetched.items()
        }
        self.delivered: list[list[tuple[str, int, int]]] = []
        self.messages: list[Any] = []
        self.sought = 0
        self.callback = self._take

    async def _wait_next_records(self, timeout: float) -> Any:  # noqa: ASYNC109  # Faust's name
        del timeout
        return self.fetched, self._active_partitions

    async def _take(self, message: Any) -> None:
        self.messages.append(message)
        self.delivered.append([(r.topic, r.partition, r.offset) for r in message.value])

    async def perform_seek(self) -> None:
        self.sought += 1


def _record(tp: TP, offset: int) -> Any:
    return SimpleNamespace(
        topic=tp.topic, partition=tp.partition, offset=offset, timestamp=1_500, timestamp_type=0
    )


async def test_a_topic_comes_as_one_list_whose_partitions_take_turns() -> None:
    """Of the group's generation, at the place of its first record."""
    consumer = _Consumer({_A0: [1, 2, 3], _A1: [5], _B0: [9]})

    await consumer._deliver_fetched()

    assert consumer.delivered == [
        [("a", 0, 1), ("a", 1, 5), ("a", 0, 2), ("a", 0, 3)],
        [("b", 0, 9)],
    ]
    (first, _) = consumer.messages
    assert (first.tp, first.offset, first.generation_id) == (_A0, 1, 7)
    assert consumer._read_offset == {_A0: 3, _A1: 5, _B0: 9}


async def test_a_list_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The agent takes a list without a turn of the loop."""
    monkeypatch.setattr(delivery, "_LIST_MAX", 2)
    consumer = _Consumer({_A0: [1, 2, 3, 4, 5]})

    await consumer._deliver_fetched()

    assert [len(each) for each in consumer.delivered] == [2, 2, 1]


@pytest.mark.parametrize("change", ["generation", "flow"])
async def test_what_a_rebalance_overtakes_is_left(
    change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever owns the partitions then reads it again."""
    monkeypatch.setattr(delivery, "_LIST_MAX", 1)
    consumer = _Consumer({_A0: [1, 2]})

    async def take(message: Any) -> None:
        await consumer._take(message)
        if change == "generation":
            consumer.app.consumer_generation_id = 8
        else:
            consumer.flow_active = False

    consumer.callback = take
    await consumer._deliver_fetched()

    assert consumer.delivered == [[("a", 0, 1)]]


@pytest.mark.parametrize("error", [None, KafkaError("away")])
async def test_what_was_fetched_while_nothing_may_be_is_sought_again(
    error: Exception | None,
) -> None:
    """It may have been fetched after its partition was begun, and would be skipped."""
    consumer = _Consumer({_A0: [1]})
    consumer.flow_active = False

    async def seek() -> None:
        consumer.sought += 1
        if error:
            raise error

    consumer.perform_seek = seek  # type: ignore[method-assign]  # as the broker answers
    await consumer._deliver_fetched()

    assert (consumer.delivered, consumer.sought) == ([], 1)


async def test_a_log_that_was_made_anew_is_held_and_its_neighbour_read() -> None:
    """An offset below one that was read is of another log."""
    consumer = _Consumer({_A0: [3, 4], _A1: [8]})
    consumer._read_offset[_A0] = 5

    await consumer._deliver_fetched()

    assert consumer.delivered == [[("a", 1, 8)]]
    assert consumer.app.held == {_A0: "offset 3 came after 5: the log was made anew"}
    assert consumer._active_partitions == {_A1}


async def test_faust_decodes_a_list_to_what_was_fetched() -> None:
    """As one event, by the way of every message."""
    records = [_record(_A0, 1), _record(_A0, 2)]
    app = MagicMock(create_event=lambda key, value, _headers, message: (key, value, message))
    message = list_message(records, 7)

    event: Any = await RecordLists().compile(app)(message, propagate=True)

    assert event == (None, records, message)
    assert message.timestamp == 1.5
