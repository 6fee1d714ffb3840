"""Refusals of ingress reach the auditors, by Kafka or by the log of the process."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import pytest

from ingress.gatekeeper import refusal_audit
from ingress.gatekeeper.refusal_audit import RefusalAudit
from schemas.audit import RefusalTally, Refused
from schemas.codec import decode_as
from schemas.events import AuditRecorded
from schemas.outgoing import Outgoing
from schemas.runtime.kafka.produce import ProduceFailed
from schemas.runtime.process.clock import Clock
from schemas.topics import AUDIT


class _Producer:
    def __init__(self, *, is_away: bool = False) -> None:
        self.records: list[Outgoing] = []
        self._is_away = is_away

    async def deliver(self, records: Sequence[Outgoing], _: float) -> None:
        if self._is_away:
            raise ProduceFailed("away")
        self.records += records


def _audit(producer: _Producer) -> RefusalAudit:
    tally = RefusalTally()
    tally.add(Refused("r1", "acme", "key_a", "server_is_overloaded", 1_000))
    return RefusalAudit(tally, producer, Clock())  # type: ignore[arg-type]


async def test_what_was_refused_is_produced_under_its_organization() -> None:
    """Where `audit list` finds it."""
    producer = _Producer()

    await _audit(producer).finish()

    (record,) = producer.records
    assert record.value is not None
    assert (record.topic, record.key) == (AUDIT, b"acme")
    assert decode_as(record.value, AuditRecorded).request_id == "r1"


async def test_what_kafka_does_not_take_stands_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Whole, so that it can be collected from there."""
    with caplog.at_level(logging.WARNING):
        await _audit(_Producer(is_away=True)).finish()

    assert '"request_id":"r1"' in caplog.text


async def test_a_long_outage_does_not_pile_up_work(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond a bound events go to the log at once."""
    monkeypatch.setattr(refusal_audit, "_AT_ONCE", 0)
    producer = _Producer()

    with caplog.at_level(logging.WARNING):
        await _audit(producer).finish()

    assert producer.records == []
    assert '"request_id":"r1"' in caplog.text
