"""What administrators did is on record, with Kafka or without."""

from __future__ import annotations

import asyncio
import json
import logging

import pytest

from ingress.admin.log.audit_trail import record_audit
from schemas.codec import decode
from schemas.events import AuditRecorded, RecordRef
from schemas.outgoing import Outgoing
from schemas.runtime.kafka.produce import ProduceFailed
from schemas.topics import AUDIT

EVENT = AuditRecorded(
    audit_id="config:organization/acme:1",
    org="acme",
    action="admin.put",
    actor="admin",
    at_ms=1_700_000_000_000,
    detail="{}",
)


class Broker:
    """Takes records, refuses them, or does not answer at all."""

    def __init__(self, answer: RecordRef | ProduceFailed | None) -> None:
        self.sent: list[Outgoing] = []
        self._answer = answer

    def send(self, record: Outgoing) -> asyncio.Future[RecordRef]:
        self.sent.append(record)
        delivered: asyncio.Future[RecordRef] = asyncio.get_running_loop().create_future()
        if isinstance(self._answer, ProduceFailed):
            delivered.set_exception(self._answer)
        elif self._answer is not None:
            delivered.set_result(self._answer)
        return delivered


async def test_an_event_goes_to_the_partition_of_its_organization(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """And not to the log."""
    broker = Broker(RecordRef(topic=AUDIT, partition=0, offset=1))

    await record_audit(broker, EVENT)

    (record,) = broker.sent
    assert (record.topic, record.key, decode(record.value)) == (AUDIT, b"acme", EVENT)
    assert caplog.records == []


@pytest.mark.parametrize("answer", [ProduceFailed("away"), None], ids=["refuses", "is silent"])
async def test_without_kafka_the_whole_event_is_in_the_log(
    answer: ProduceFailed | None, caplog: pytest.LogCaptureFixture
) -> None:
    """From there it can be collected."""
    with caplog.at_level(logging.WARNING):
        await record_audit(Broker(answer), EVENT, deadline_s=0.001)

    (line,) = caplog.messages
    assert json.loads(line.partition("audit=")[2])["audit_id"] == EVENT.audit_id
