"""The renewal of leases: no failure of one round or of one attempt ends it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

import pytest

from dispatcher.abort import DrainCap
from dispatcher.claims import claiming
from dispatcher.claims.leases import Leases
from dispatcher.work import AdmittedRequest
from schemas.ledger import answers
from schemas.ledger.errors import LedgerFault
from schemas.runtime.ledger.client import LedgerClient
from schemas.times import FULL
from tests.support.events import DISPATCHED_AT, accepted, admitted

LEASE_MS = FULL.ledger.attempt_lease_ms


class _Ledger:
    """Answers round after round what the test has prepared."""

    def __init__(self, *rounds: Any) -> None:
        self._rounds = list(rounds)
        self.asked = 0

    async def renew_many(self, renewals: Sequence[Any]) -> Any:
        self.asked += 1
        answer = self._rounds.pop(0) if self._rounds else [answers.Ok()] * len(renewals)
        if isinstance(answer, Exception):
            raise answer
        return answer


def _job(request_id: str) -> AdmittedRequest:
    request = accepted(request_id=request_id)
    return AdmittedRequest(admitted(request), request, DISPATCHED_AT)


async def _rounds(ledger: _Ledger) -> list[str | None]:
    """Let several rounds pass over two attempts; why each of them was ended."""
    often = replace(FULL, lease_renewal_ms=10)
    kept = Leases(cast("LedgerClient", ledger), DrainCap(1.0, 1), "dispatcher-0", often)
    first, second = answers.Fence(fence=1, attempt=1), answers.Fence(fence=2, attempt=1)
    with kept.held(_job("one"), first) as one, kept.held(_job("two"), second) as two:
        keeping = asyncio.create_task(kept.keep())
        await asyncio.sleep(0.1)
        is_over = keeping.done()
        keeping.cancel()
        assert not is_over
        return [one.abort.reason, two.abort.reason]


async def test_a_round_that_breaks_is_followed_by_the_next() -> None:
    """Whatever it was, the leases of all must not run out."""
    ledger = _Ledger(RuntimeError("a defect"), KeyError("another"))

    assert await _rounds(ledger) == [None, None]
    assert ledger.asked > 2


async def test_one_renewal_that_fails_leaves_the_other_alone() -> None:
    """The other one is cancelled as the ledger says."""
    ledger = _Ledger([LedgerFault("a defect"), answers.Cancelled()])

    assert await _rounds(ledger) == [None, "cancelled"]


@pytest.mark.parametrize(
    ("left_ms", "least_s", "most_s"),
    [(0, 0.25, 0.3), (5_000, 5.05, 6.06), (10**9, LEASE_MS / 1000, 1.3 * LEASE_MS / 1000)],
    ids=["over already", "half a lease", "an impossible one"],
)
def test_whoever_waits_for_anothers_lease_asks_rarely_and_not_all_at_once(
    left_ms: int, least_s: float, most_s: float
) -> None:
    """Many copies of a record may wait for the same moment."""
    pauses = {claiming._pause_s(left_ms, LEASE_MS) for _ in range(100)}

    assert min(pauses) >= least_s
    assert max(pauses) <= most_s
    assert len(pauses) > 50
