"""What is kept of a result while no broker answers, and of one that no broker takes."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast

import msgspec
import pytest

from dispatcher.settlement import recording
from dispatcher.settlement.recording import Recording
from schemas.codec import decode_as, encode
from schemas.events import RecordRef, RequestFinished
from schemas.outgoing import Outgoing
from schemas.runtime.kafka.consume.records import Record
from schemas.runtime.kafka.produce import ProduceFailed, Producer, ProduceRefused
from schemas.runtime.process.clock import Clock
from tests.support import events

KIB = 1024


@dataclass
class _Producer:
    """Fails or refuses whatever it is given."""

    error: Exception

    def send(self, record: Outgoing) -> asyncio.Future[RecordRef]:
        delivered: asyncio.Future[RecordRef] = asyncio.get_running_loop().create_future()
        delivered.set_exception(self.error)
        return delivered


@dataclass
class _Record:
    headers: Mapping[str, bytes] = field(default_factory=dict)


def _kept(monkeypatch: pytest.MonkeyPatch, error: Exception, result: bytes) -> RequestFinished:
    monkeypatch.setattr(recording, "_RESULT_WITHIN_S", 0.05)
    finished = msgspec.structs.replace(events.finished([], []), result=result)
    recorder = Recording(cast(Producer, _Producer(error)), Clock())
    return asyncio.run(recorder.set_result_aside(cast(Record, _Record()), finished, waits=True))


def test_a_usual_result_stays_in_its_outcome_while_kafka_is_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its key is answered with the same bytes, however long that lasts."""
    result = b"x" * (64 * KIB)

    kept = _kept(monkeypatch, ProduceFailed("no broker"), result)

    assert kept.result == result


def test_a_very_large_result_does_not_fill_the_ledger(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is lost while Kafka is away for longer than its client may be kept waiting."""
    kept = _kept(monkeypatch, ProduceFailed("no broker"), b"x" * (64 * KIB + 1))

    assert kept.result is None
    assert kept.result_ref is None


def test_a_result_that_no_broker_takes_is_lost_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the log refuses would be refused inside of an outcome, too."""
    kept = _kept(monkeypatch, ProduceRefused("too large"), b"x" * (8 * KIB))

    assert kept.result is None


@dataclass
class _Log:
    """Takes what is sent again; the first time it fails."""

    error: Exception
    delivered: list[Outgoing] = field(default_factory=list)

    def send(self, record: Outgoing) -> asyncio.Future[RecordRef]:
        return _Producer(self.error).send(record)

    async def deliver(self, records: list[Outgoing], _deadline_s: float) -> None:
        self.delivered += records


@pytest.mark.parametrize(
    ("error", "result"),
    [(ProduceFailed("no broker"), b"kept"), (ProduceRefused("too large"), None)],
    ids=["away", "refused"],
)
def test_an_outcome_on_its_way_arrives(error: Exception, result: bytes | None) -> None:
    """Sent again as it was where no broker took it; without its result where none ever would."""
    finished = msgspec.structs.replace(events.finished([], []), result=b"kept")
    log = _Log(error)
    recorder = Recording(cast(Producer, log), Clock())

    async def arrive() -> None:
        await recorder.arrived(
            recorder.send_outcome(cast(Record, _Record()), finished, encode(finished))
        )

    asyncio.run(arrive())

    (record,) = log.delivered
    assert decode_as(record.value, RequestFinished).result == result
