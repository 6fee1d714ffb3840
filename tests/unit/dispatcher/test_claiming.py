"""A claim of what the ledger does not know: lost, and taken up again, or over and forgotten."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import cast

import pytest

from dispatcher.claims.claiming import Claiming
from dispatcher.work import AdmittedRequest
from schemas.ledger import answers, documents
from schemas.runtime.ledger.client import LedgerClient
from schemas.runtime.process.clock import Clock
from tests.support.events import DISPATCHED_AT, accepted, admitted


@dataclass
class _EmptyLedger:
    """Knows no request; takes each back that it is told to."""

    readmitted: list[str] = field(default_factory=list)

    async def start(self, document: documents.Start) -> answers.StartAnswer:
        if document.readmit is None:
            return answers.Gone()
        self.readmitted.append(document.req)
        return answers.Expired()


@pytest.mark.parametrize(
    ("deadline_in_ms", "is_in_log", "readmissions"),
    [(60_000, True, 1), (-1, False, 1), (-1, True, 0)],
    ids=["in time, so the ledger was rebuilt", "late and without an outcome", "over long ago"],
)
async def test_only_what_is_not_over_is_taken_up_again(
    deadline_in_ms: int, is_in_log: bool, readmissions: int
) -> None:
    """Of a request that ended nothing is written into the ledger, whose refusal would free its key."""
    ledger = _EmptyLedger()
    claiming = Claiming(cast("LedgerClient", ledger), Clock(), "dispatcher-0")
    asked: list[AdmittedRequest] = []

    async def has_ended(job: AdmittedRequest) -> bool:
        asked.append(job)
        return is_in_log

    request = accepted(deadline_ms=Clock().now_ms() + deadline_in_ms)
    job = AdmittedRequest(admitted(request), request, DISPATCHED_AT)
    verdict = await claiming.claim(job, has_ended)

    assert len(ledger.readmitted) == readmissions
    assert isinstance(verdict, answers.Expired if readmissions else answers.Gone)
    assert len(asked) == (deadline_in_ms < 0)
