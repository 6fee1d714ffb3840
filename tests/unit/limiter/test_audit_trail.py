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
from limiter_worker.decisions import end
from limiter_worker.taken import Decided, Taken
from schemas.codec import decode_as, encode
from schemas.errors import ErrorCode
from schemas.events import AuditRecorded
from schemas.outgoing import Outgoing
from schemas.runtime.kafka.produce import ProduceFailed, Producer
from schemas.runtime.ledger.client import LedgerClient
from schemas.runtime.process.clock import Clock
from schemas.topics import AUDIT, OUTCOMES
from tests.support.events import ACCEPTED_AT, NOW_MS, REQUEST_ID, accepted, configuration
from tests.support.limiter_parts import FakeConfig, FakeProducer, FakeRecord, Limiter, Parts

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


def _refused(record: FakeRecord, request_id: str = REQUEST_ID) -> Decided:
    request = accepted(request_id=request_id)
    taken = Accepted(request, encode(request), ACCEPTED_AT, NOW_MS)
    refusal = end(taken, "refused", ErrorCode.MODEL_UNPRICED)
    return Taken(record.as_record(), taken).becomes(refusal)


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
    """The outcome is out; the record is finished once its event is kept."""
    producer, record = _NoAudit(), FakeRecord(b"")
    parts = Parts(
        Limiter(cast("LedgerClient", None), FakeConfig(configuration()), producer=producer)
    )
    await parts.execution.carry_out([_refused(record)])

    assert [r.topic for r in producer.produced] == [OUTCOMES]
    assert record.finished == 0
    parts.trail.flush()
    await asyncio.sleep(0)
    assert record.finished == 0
    producer.opened.set()
    await parts.trail.settled()
    assert record.finished == 1
    assert [r.topic for r in producer.produced] == [OUTCOMES, AUDIT]


async def test_refusals_alike_become_one_event_that_lists_them() -> None:
    """And every record is finished when that one is kept."""
    producer = FakeProducer()
    parts = Parts(
        Limiter(cast("LedgerClient", None), FakeConfig(configuration()), producer=producer)
    )
    records = [FakeRecord(b"") for _ in range(3)]
    await parts.execution.carry_out([_refused(r, f"r{n}") for n, r in enumerate(records)])
    await parts.trail.settled()

    (event,) = producer.events(AUDIT)
    assert isinstance(event, AuditRecorded)
    assert msgspec.json.decode(event.detail)["request_ids"] == ["r0", "r1", "r2"]
    assert [record.finished for record in records] == [1, 1, 1]
