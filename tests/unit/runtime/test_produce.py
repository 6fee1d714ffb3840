"""The producer: one refused record fails alone, a lost sequence is begun anew, nothing stays unsettled."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiokafka import errors

from schemas import topics
from schemas.clock_estimate import Reading
from schemas.events import RecordRef
from schemas.failures import Poison, Transient
from schemas.outgoing import Outgoing
from schemas.partitions import partition_of
from schemas.runtime.kafka import produce
from schemas.runtime.kafka.produce import ProduceFailed, Producer, ProduceRefused
from schemas.runtime.kafka.produce_faults import RECORD_BYTES_MAX, InvalidRecord, size_bytes
from tests.support.remembered import grown, remembered
from tests.unit.runtime.scripted_producer import Broker

_TOPIC = topics.OUTCOMES
_KEYS = {partition_of(key, 2): key for key in (b"a", b"b", b"c", b"d", b"e")}


def _record(value: bytes, partition: int = 0, topic: str = _TOPIC) -> Outgoing:
    return Outgoing(topic, _KEYS[partition], value)


@asynccontextmanager
async def _producer(broker: Broker) -> AsyncIterator[Producer]:
    producer = Producer("none", "test", connect=broker.connect)
    await producer.start([_TOPIC, topics.AUDIT, topics.DISPATCH])
    try:
        yield producer
    finally:
        await producer.stop()


async def _results(*sent: asyncio.Future[RecordRef]) -> list[RecordRef | BaseException]:
    return await asyncio.wait_for(asyncio.gather(*sent, return_exceptions=True), 5)


def _refuses(bad: bytes, error: errors.KafkaError) -> Broker:
    return Broker(judge=lambda values: error if bad in values else None)


@pytest.mark.parametrize(
    "error",
    [
        errors.MessageSizeTooLargeError(),
        errors.RecordListTooLargeError(),
        errors.InvalidTimestampError(),
        errors.CorruptRecordException(),
        InvalidRecord(),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_the_record_at_fault_fails_alone_and_for_good(error: errors.KafkaError) -> None:
    """Its batch is taken apart; the others arrive, and so does what is sent later."""
    broker = _refuses(b"bad", error)
    async with _producer(broker) as producer:
        values = [b"1", b"2", b"bad", b"3", b"4", b"5"]
        first, *_ = await _results(producer.send(_record(b"0")))
        results = await _results(*(producer.send(_record(value)) for value in values))
        later, *_ = await _results(producer.send(_record(b"6")))

    assert isinstance(first, RecordRef)
    assert [isinstance(result, RecordRef) for result in results] == [
        value != b"bad" for value in values
    ]
    assert isinstance(results[2], ProduceRefused)
    assert isinstance(results[2], Poison)
    assert isinstance(later, RecordRef)
    assert broker.log[_TOPIC, 0] == [b"0", b"1", b"2", b"3", b"4", b"5", b"6"]
    offsets = [result.offset for result in results if isinstance(result, RecordRef)]
    assert offsets == [1, 2, 3, 4, 5]
    assert producer.queued == 0


@pytest.mark.parametrize(
    "error",
    [
        errors.OutOfOrderSequenceNumber(),
        errors.UnknownProducerId(),
        errors.ProducerFenced(),
        errors.InvalidProducerIdMapping(),
        errors.UnknownError(),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_a_lost_sequence_is_begun_anew(error: errors.KafkaError) -> None:
    """Its batch may be sent again, and is taken then."""
    once = [error]
    broker = Broker(judge=lambda values: once.pop() if once else None)
    async with _producer(broker) as producer:
        (result,) = await _results(producer.send(_record(b"1")))
        await producer.deliver([_record(b"2"), _record(b"3")], time.monotonic() + 5)

    assert isinstance(result, ProduceFailed)
    assert isinstance(result, Transient)
    assert broker.log[_TOPIC, 0] == [b"2", b"3"]
    assert len(broker.producers) == 2


async def test_the_producer_is_made_new_once_for_all_lanes() -> None:
    """And the batch of another partition that is under way ends where it began."""
    once = [errors.OutOfOrderSequenceNumber()]
    broker = Broker(judge=lambda values: once.pop() if values == [b"bad"] else None)
    broker.gate, broker.gated = asyncio.Event(), 1
    async with _producer(broker) as producer:
        other = producer.send(_record(b"other", partition=1))
        await asyncio.sleep(0.01)
        await _results(producer.send(_record(b"bad")))
        (later,) = await _results(producer.send(_record(b"later")))
        broker.gate.set()
        (result,) = await _results(other)

    assert isinstance(later, RecordRef)
    assert isinstance(result, RecordRef)
    assert len(broker.producers) == 2
    assert broker.log[_TOPIC, 1] == [b"other"]


async def test_a_producer_whose_sender_died_is_replaced() -> None:
    """It takes no batch any more; what it was handed is sent again by its callers."""
    broker = Broker()
    async with _producer(broker) as producer:
        broker.producers[0].die()
        await producer.deliver([_record(b"1")], time.monotonic() + 5)

    assert broker.log[_TOPIC, 0] == [b"1"]


async def test_a_new_producer_is_tried_for_until_a_broker_is_back() -> None:
    """Batches wait for it meanwhile."""
    once = [errors.OutOfOrderSequenceNumber()]
    broker = Broker(judge=lambda values: once.pop() if once else None, starts_failing=2)
    async with _producer(broker) as producer:
        await producer.deliver([_record(b"1")], time.monotonic() + 5)

    assert broker.log[_TOPIC, 0] == [b"1"]
    assert len(broker.producers) == 4


async def test_a_topic_that_may_not_be_written_refuses_at_once_and_bothers_nobody() -> None:
    """One refusal is asked for; the producer is not made new for each of the next ones."""
    broker = _refuses(b"audit", errors.TopicAuthorizationFailedError())
    async with _producer(broker) as producer:
        for _ in range(5):
            (result,) = await _results(producer.send(_record(b"audit", topic=topics.AUDIT)))
            assert isinstance(result, ProduceRefused)
        (other,) = await _results(producer.send(_record(b"1")))

    assert isinstance(other, RecordRef)
    assert len(broker.producers) == 2


async def test_a_record_that_no_topic_takes_is_known_before_it_is_sent() -> None:
    """Key, value and headers count; its neighbours are not touched."""
    broker = Broker()
    large = b"x" * (RECORD_BYTES_MAX - 200)
    async with _producer(broker) as producer:
        results = await _results(
            producer.send(_record(b"1")),
            producer.send(Outgoing(_TOPIC, b"a", large + b"x" * 200)),
            producer.send(Outgoing(_TOPIC, b"a", large, [("h", b"y" * 300)])),
            producer.send(Outgoing(_TOPIC, b"a" * 300, large)),
            producer.send(_record(b"2")),
        )

    assert [type(result) for result in results] == [
        RecordRef, ProduceRefused, ProduceRefused, ProduceRefused, RecordRef,
    ]  # fmt: skip
    assert len(broker.producers) == 1


def test_the_size_of_a_record_is_not_underestimated() -> None:
    """Of names in any script."""
    from aiokafka.record.default_records import DefaultRecordBatchBuilder  # noqa: PLC0415

    headers = [("é" * 40, b"x" * 100), ("ce_id", b"")]
    real = DefaultRecordBatchBuilder.estimate_size_in_bytes(b"key", b"v" * 1_000, headers)

    assert size_bytes(b"key", b"v" * 1_000, headers) >= real - 61


@pytest.mark.parametrize(
    "odd",
    [
        Outgoing(_TOPIC, _KEYS[0], b"x", [("h", "text")]),  # type: ignore[list-item]
        Outgoing(_TOPIC, _KEYS[0], b"x", [("\ud800", b"")]),
    ],
)
async def test_what_cannot_be_packed_fails_alone(odd: Outgoing) -> None:
    """A defect of ours in one record."""
    broker = Broker()
    async with _producer(broker) as producer:
        results = await _results(
            producer.send(_record(b"1")), producer.send(odd), producer.send(_record(b"2"))
        )

    assert [type(result) for result in results] == [RecordRef, ProduceRefused, RecordRef]


async def test_a_defect_while_sending_loses_neither_the_lane_nor_a_future() -> None:
    """Whatever the client library raises."""
    broker = Broker(judge=lambda values: 1 / 0)
    async with _producer(broker) as producer:
        results = await _results(producer.send(_record(b"1")), producer.send(_record(b"2")))
        broker.judge = lambda values: None
        (later,) = await _results(producer.send(_record(b"3")))

    assert [type(result) for result in results] == [ProduceFailed, ProduceFailed]
    assert isinstance(later, RecordRef)
    assert producer.queued == 0


async def test_the_queue_is_bounded_in_bytes_and_in_records(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What does not fit fails at once, and there is room again afterwards."""
    monkeypatch.setattr(produce, "_QUEUED_BYTES_MAX", 1_000)
    broker = Broker(gate=asyncio.Event(), gated=0)
    assert broker.gate is not None
    async with _producer(broker) as producer:
        first = producer.send(_record(b"x" * 700))
        second = producer.send(_record(b"x" * 700))
        assert isinstance(second.exception(), ProduceFailed)
        monkeypatch.setattr(produce, "_QUEUED_RECORDS_MAX", 1)
        assert isinstance(producer.send(_record(b"x")).exception(), ProduceFailed)
        broker.gate.set()
        assert isinstance((await _results(first))[0], RecordRef)
        assert isinstance((await _results(producer.send(_record(b"x" * 700))))[0], RecordRef)


async def test_a_stop_settles_what_was_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Under way and queued alike."""
    monkeypatch.setattr(produce, "_STOP_WITHIN_S", 0.01)
    broker = Broker(gate=asyncio.Event(), gated=0)
    assert broker.gate is not None
    async with _producer(broker) as producer:
        first = producer.send(_record(b"1"))
        await asyncio.sleep(0.01)
        second = producer.send(_record(b"2"))
        asyncio.get_running_loop().call_later(0.1, broker.gate.set)
    results = await _results(first, second)

    assert [type(result) for result in results] == [ProduceFailed, ProduceFailed]


async def test_how_long_nothing_was_acknowledged_is_known_until_something_is() -> None:
    """Whoever gave up waiting changes nothing of it; another partition that works does not hide it."""
    broker = Broker(gate=asyncio.Event(), gated=0)
    assert broker.gate is not None
    async with _producer(broker) as producer:
        first = producer.send(_record(b"1"))
        await asyncio.sleep(0.05)
        first.cancel()
        await _results(producer.send(_record(b"2", partition=1)))
        later = producer.send(_record(b"3"))
        assert producer.unacknowledged_s >= 0.05
        broker.gate.set()
        await _results(later)
        await asyncio.sleep(0)
        assert producer.unacknowledged_s == 0.0


async def test_deliver_tells_of_a_refusal_once_the_others_are_delivered() -> None:
    """It sends the refused one no second time."""
    broker = _refuses(b"bad", errors.MessageSizeTooLargeError())
    async with _producer(broker) as producer:
        records = [_record(b"1"), _record(b"bad"), _record(b"2", partition=1)]
        with pytest.raises(ProduceRefused):
            await producer.deliver(records, time.monotonic() + 5)

    assert broker.log == {(_TOPIC, 0): [b"1"], (_TOPIC, 1): [b"2"]}
    assert sum(b"bad" in batch for batch in broker.batches) == 2  # with its neighbour, then alone


async def test_each_acknowledgement_tells_the_brokers_time() -> None:
    """It lies between the moments of sending and of the answer."""
    broker, told = Broker(now_ms=1_700_000_000_000), list[Reading]()
    producer = Producer("none", "test", connect=broker.connect, on_appended=told.append)
    await producer.start([_TOPIC, topics.AUDIT])
    before_s = time.monotonic()
    await producer.send(_record(b"one"))
    after_s = time.monotonic()
    await producer.stop()

    assert [reading.at_ms for reading in told] == [1_700_000_000_000.5]
    assert before_s <= told[0].before_s <= told[0].after_s <= after_s


async def test_a_record_stands_where_it_has_to_whatever_its_key_says() -> None:
    """What a shard is rebuilt from is in the shard's partition."""
    broker = Broker()
    async with _producer(broker) as producer:
        record = Outgoing(_TOPIC, _KEYS[0], b"1", partition=1)
        (stands,) = await _results(producer.send(record))

    assert stands == RecordRef(topic=_TOPIC, partition=1, offset=0)
    assert broker.log[_TOPIC, 1] == [b"1"]


async def test_of_keys_only_those_of_organizations_are_remembered() -> None:
    """Each request has a key of its own: those of an hour would be megabytes that nobody asks for again."""
    async with _producer(Broker()) as producer:
        before = remembered()
        for number in range(50):
            sent = [
                producer.send(Outgoing(topics.DISPATCH, b"request-%d" % number, b"")),
                producer.send(Outgoing(topics.OUTCOMES, b"an-organization", b"")),
            ]
            await _results(*sent)

    assert grown(before) == {"schemas.partitions.partition_of_org": 1}
