"""What follows from decisions goes out, and each record waits for its own follow-up only."""

from __future__ import annotations

import asyncio
import time

import pytest

from limiter_worker import effects as execution
from limiter_worker.decisions import end
from limiter_worker.taken import Decided, Taken
from schemas.errors import ErrorCode
from schemas.events import RecordRef
from schemas.frames import Terminal
from schemas.outgoing import Outgoing
from schemas.runtime.kafka.produce import ProduceFailed
from tests.support.events import accepted, configuration
from tests.support.limiter_parts import (
    FakeConfig,
    FakeProducer,
    FakeRecord,
    Limiter,
    ModelLedger,
    Parts,
)


class _SlowFor(FakeProducer):
    """Acknowledges nothing of one organization until it is told."""

    def __init__(self, org: bytes) -> None:
        super().__init__()
        self.org = org
        self.held: list[asyncio.Future[RecordRef]] = []

    def send(self, record: Outgoing) -> asyncio.Future[RecordRef]:
        if record.key != self.org:
            return super().send(record)
        self.held.append(asyncio.get_running_loop().create_future())
        return self.held[-1]


class _FailsOnce(FakeProducer):
    failed = False

    def send(self, record: Outgoing) -> asyncio.Future[RecordRef]:
        if self.failed:
            return super().send(record)
        self.failed = True
        refused: asyncio.Future[RecordRef] = asyncio.get_running_loop().create_future()
        refused.set_exception(ProduceFailed("not now"))
        return refused


def _parts(producer: FakeProducer) -> Parts:
    ledger = ModelLedger()
    return Limiter(ledger, FakeConfig(configuration()), producer=producer).parts()


def _ended(parts: Parts, record: FakeRecord, **more: object) -> Decided:
    record.value = (
        Limiter(ModelLedger(), FakeConfig(configuration())).record(accepted(**more)).value
    )
    (taken,) = parts.admission.take([record.as_record()])
    assert isinstance(taken, Taken)
    return taken.becomes(end(taken.accepted, "cancelled", ErrorCode.REQUEST_CANCELLED))


async def test_a_slow_partition_holds_up_its_own_records_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And the batch not at all beyond its bound."""
    monkeypatch.setattr(execution, "_BATCH_WAITS_S", 0.05)
    producer = _SlowFor(b"slow")
    parts, records = _parts(producer), [FakeRecord(None), FakeRecord(None)]
    decided = [_ended(parts, records[0], org="slow"), _ended(parts, records[1], org="quick")]
    started_s = time.monotonic()
    await parts.execution.carry_out(decided)

    assert time.monotonic() - started_s < 1.0
    assert [record.finished for record in records] == [0, 1]
    producer.held[0].set_result(RecordRef(topic="t", partition=0, offset=0))
    await parts.execution.settled()
    assert records[0].finished == 1


async def test_a_follow_up_that_fails_for_now_is_sent_again() -> None:
    """Its record is finished when the broker has it."""
    producer, record = _FailsOnce(), FakeRecord(None)
    parts = _parts(producer)
    await parts.execution.carry_out([_ended(parts, record)])
    await parts.execution.settled()

    assert (record.finished, len(producer.produced)) == (1, 1)


async def test_no_more_is_decided_than_the_broker_can_take(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With too much unacknowledged a batch waits for it."""
    monkeypatch.setattr(execution, "_BATCH_WAITS_S", 0.01)
    monkeypatch.setattr(execution, "_UNACKNOWLEDGED_MAX_BYTES", 1)
    producer = _SlowFor(b"acme")
    parts = _parts(producer)
    decided = [_ended(parts, FakeRecord(None)) for _ in range(2)]
    carrying = asyncio.create_task(parts.execution.carry_out(decided))
    await asyncio.sleep(0.05)

    assert not carrying.done()
    for held in producer.held:
        held.set_result(RecordRef(topic="t", partition=0, offset=0))
    await asyncio.wait_for(carrying, 1.0)


async def test_a_client_is_told_its_end_once_the_log_has_it() -> None:
    """A ledger that is rebuilt meanwhile knows a refusal from the log alone: what was refused would run after all."""
    producer = _SlowFor(b"acme")
    limiter = Limiter(ModelLedger(), FakeConfig(configuration()), producer=producer)
    parts = limiter.parts()
    carrying = asyncio.create_task(parts.execution.carry_out([_ended(parts, FakeRecord(None))]))
    await asyncio.sleep(0)
    await parts.replies.send_waiting()

    assert not limiter.bus.sent
    producer.held[0].set_result(RecordRef(topic="t", partition=0, offset=0))
    await carrying
    await parts.replies.send_waiting()
    (told,) = limiter.bus.sent
    assert isinstance(told.content, Terminal)
