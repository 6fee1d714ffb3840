"""Audit events are kept somewhere, and the main path never waits for them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import cast

import msgspec
import pytest

from limiter_worker.accepted import Accepted
from limiter_worker.audit_trail import AuditTrail
from limiter_worker.execution import Decided, Execution
from limiter_worker.verdicts import end
from schemas.codec import decode_as, encode
from schemas.errors import ErrorCode
from schemas.events import AuditRecorded
from schemas.runtime.bus import Bus
from schemas.runtime.clock import Clock
from schemas.runtime.produce import Outgoing, ProduceFailed, Producer
from schemas.topics import AUDIT, OUTCOMES
from tests.fakes.limiter_parts import FakeBus, FakeProducer, FakeRecord
from tests.unit.examples import ACCEPTED_AT, NOW_MS, REQUEST_ID, accepted

_EVENT = AuditRecorded(
    audit_id="r1:refused", org="acme", action="refused", actor="key_a", at_ms=1, detail="{}"
)


class _NoAudit(FakeProducer):
    """Takes outcomes, but no audit events until it is told; then it may still refuse them."""

    def __init__(self) -> None:
        super().__init__()
        self.opened = asyncio.Event()
        self.refuses = False

    async def deliver(self, records: Sequence[Outgoing], deadline_s: float) -> None:
        if records[0].topic == AUDIT:
            await self.opened.wait()
            if self.refuses:
                raise ProduceFailed("not today")
        await super().deliver(records, deadline_s)


def _trail(producer: FakeProducer, deadline_s: float = 60.0) -> AuditTrail:
    return AuditTrail(cast("Producer", producer), Clock(), deadline_s)


def _refused(record: FakeRecord) -> Decided:
    request = accepted()
    taken = Accepted(request, encode(request), ACCEPTED_AT, NOW_MS)
    return Decided(record.as_record(), taken, end(taken, "refused", ErrorCode.MODEL_UNPRICED))


async def test_an_event_goes_to_its_topic_under_its_organization() -> None:
    """With an id that consumers deduplicate by."""
    producer = FakeProducer()
    await _trail(producer).keep([_EVENT])

    (record,) = producer.produced
    assert (record.topic, record.key) == (AUDIT, b"acme")
    assert decode_as(record.value, AuditRecorded) == _EVENT
    assert dict(record.headers)["ce_id"] == b"r1:refused"


@pytest.mark.parametrize("refuses", [True, False], ids=["refused", "too slow"])
async def test_what_kafka_does_not_take_is_in_the_log(
    refuses: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Whole, as JSON."""
    producer = _NoAudit()
    producer.refuses = refuses
    if refuses:
        producer.opened.set()
    with caplog.at_level(logging.WARNING):
        await _trail(producer, deadline_s=60.0 if refuses else 0.0).keep([_EVENT])

    assert producer.produced == []
    assert msgspec.json.encode(_EVENT).decode() in caplog.text


async def test_the_offset_waits_for_the_audit_event_and_the_batch_does_not() -> None:
    """The outcome is out and the client told; the record is finished once its event is kept."""
    producer, bus, record = _NoAudit(), FakeBus(), FakeRecord(b"")
    trail, clock = _trail(producer), Clock()
    execution = Execution(cast("Producer", producer), cast("Bus", bus), trail, clock)
    await execution.carry_out([_refused(record)])

    assert [r.topic for r in producer.produced] == [OUTCOMES]
    assert [frame.request_id for frame in bus.sent] == [REQUEST_ID]
    assert record.finished == 0
    producer.opened.set()
    for _ in range(5):
        await asyncio.sleep(0)
    assert record.finished == 1
    assert [r.topic for r in producer.produced] == [OUTCOMES, AUDIT]
