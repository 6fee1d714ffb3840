"""What a verification says is kept, told once, and shown as metrics; whatever a round meets, the next one begins."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest

from ingress.admin.finance.books_alarm import BooksAlarm
from ingress.admin.finance.verification import VerifyJob
from ingress.admin.finance.verifier import Verifier
from ingress.admin.log.scans import ScanFailed, ScanUnavailable
from schemas.ledger.shards import Shards
from schemas.runtime.process.clock import Clock
from schemas.runtime.process.telemetry import Metrics

EQUAL: dict[str, Any] = {"shard": 3, "state": "equal"}
DIFFERS: dict[str, Any] = {
    "shard": 3,
    "state": "differs",
    "difference": 7,
    "differences": [
        {
            "org": "acme",
            "what": "b:org",
            "field": "settled",
            "ledger": 107,
            "log": 100,
            "difference": 7,
            "explanation": {"because": "does not fit", "requests": ["r1", "r2"]},
        }
    ],
}


@dataclass
class Scripted:
    """Scans that answer one after another; the last answer stays."""

    answers: list[Any]
    jobs: list[VerifyJob] = field(default_factory=list)

    async def run(self, kind: str, job: msgspec.Struct, within_s: float) -> Any:
        self.jobs.append(cast("VerifyJob", job))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return {"shards": [answer]}


def verifier(*answers: Any, period_s: float = 60.0) -> Verifier:
    settings = SimpleNamespace(kafka_brokers="h:1", ledger_url="redis://h", data_dir="/nowhere")
    deps: Any = SimpleNamespace(settings=settings, clock=Clock(), shards=Shards(4))
    scans: Any = Scripted(list(answers))
    return Verifier(deps, scans, Metrics(), BooksAlarm(period_s=period_s, began_s=0.0))


async def test_a_difference_is_a_metric_and_a_line_for_each_request(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """So that the requests are found by their ids; told once, and again when it is over."""
    own = verifier(DIFFERS, DIFFERS, EQUAL)

    await own.verify(1.0)
    page = own.metrics.page().decode()
    await own.verify(1.0)
    told = caplog.text.splitlines()
    await own.verify(1.0)

    assert 'tallygate_ledger_difference{shard="3"} 7.0' in page
    assert ["request_id=r1" in told[0], "request_id=r2" in told[1], len(told)] == [True, True, 2]
    assert 'tallygate_ledger_difference{shard="3"} 0.0' in own.metrics.page().decode()
    assert "tallygate_ledger_equal_at_seconds" in own.metrics.page().decode()


async def test_rounds_go_on_whatever_one_of_them_meets() -> None:
    """What is away, and a defect."""
    own = verifier(ScanUnavailable("away"), ScanFailed("defect"), DIFFERS, period_s=0.001)

    running = asyncio.create_task(own.run())
    async with asyncio.timeout(10):
        while 3 not in own.alarm.verdicts:  # noqa: ASYNC110  # rounds have no event
            await asyncio.sleep(0.001)
    running.cancel()

    assert own.component.startswith("degraded: shard 3 differs by 7 (requests r1, r2)")


async def test_everything_is_read_only_where_that_is_asked_for() -> None:
    """By a person; every minute it goes on from its checkpoint."""
    own = verifier(EQUAL)

    await own.verify(1.0)
    await own.verify(1.0, is_full=True)

    jobs = cast("Scripted", own.scans).jobs
    assert [(job.is_full, job.shards) for job in jobs] == [(False, 4), (True, 4)]
