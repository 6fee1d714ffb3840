"""Joining a request that may never have reached the log."""

from __future__ import annotations

import asyncio
from typing import cast

from ingress.http.refusals import Refusal
from ingress.requests.claims import Acquired, ClaimRequest, Claims, Existing
from ingress.requests.idempotency import IdempotencyKey
from ingress.requests.lookup import RequestLookup
from ingress.requests.request_state import Open, RequestState
from schemas.errors import ErrorCode
from schemas.ledger import answers, documents
from schemas.ledger.errors import LedgerNotReady, LedgerUnavailable
from schemas.runtime.ledger.client import LedgerClient
from schemas.runtime.process.clock import Clock

LATER = 4_000_000_000_000


class _Ledger:
    """Answers claims in turn; the last answer stays."""

    def __init__(self, *claims: answers.ClaimAnswer | LedgerUnavailable) -> None:
        self._claims = list(claims)
        self.asked: list[documents.Claim] = []
        self.released: list[str] = []

    async def claim(self, document: documents.Claim) -> answers.ClaimAnswer:
        self.asked.append(document)
        answer = self._claims.pop(0) if len(self._claims) > 1 else self._claims[0]
        if isinstance(answer, LedgerUnavailable):
            raise answer
        return answer

    async def release(self, document: documents.Release) -> answers.ReleaseAnswer:
        self.released.append(document.req)
        return answers.Ok()


class _Recollection:
    """Knows of nothing that has ended."""

    clock = Clock()

    def __init__(self, *, is_in_log: bool = False) -> None:
        self.is_in_log = is_in_log
        self.asked = 0

    async def find(self, org: str, request_id: str, deadline_ms: int) -> RequestState:
        return Open("queued")

    async def is_decided_from_log(self, org: str, request_id: str) -> bool:
        self.asked += 1
        return self.is_in_log

    async def end_on_bus(self, request_id: str) -> None:
        return None


_UNSEEN = answers.Held(req="first", state="", deadline_ms=LATER)
_RUNNING = answers.Held(req="first", state="RUNNING", deadline_ms=LATER)


def _claims(ledger: _Ledger, lookup: _Recollection | None = None) -> Claims:
    known = lookup or _Recollection()
    return Claims(cast("LedgerClient", ledger), cast("RequestLookup", known), 100)


def _wish(*, may_wait: bool = True) -> ClaimRequest:
    return ClaimRequest("acme", IdempotencyKey("hash", "print"), "second", 8_000, may_wait)


async def test_a_holder_that_never_reached_the_log_is_taken_over() -> None:
    """Its ingress died before the broker had it; whoever joined it would wait for nothing."""
    ledger = _Ledger(_UNSEEN, _UNSEEN, answers.Claimed(req="first", deadline_ms=LATER))

    assert await _claims(ledger).claim(_wish()) == Acquired("first", LATER)
    assert ledger.asked[-1].produce_by_ms >= ledger.asked[0].produce_by_ms


async def test_a_key_of_a_shard_that_is_closed_is_told_so_at_once() -> None:
    """A rebuild takes seconds: its client comes back. One that merely does not answer is asked again."""
    closed, away = _Ledger(LedgerNotReady("closed")), _Ledger(LedgerUnavailable("away"), _RUNNING)
    async with asyncio.timeout(1):
        refusal = await _claims(closed).claim(_wish())
        existing = await _claims(away).claim(_wish())

    assert isinstance(refusal, Refusal)
    assert refusal.code is ErrorCode.SERVICE_UNAVAILABLE
    assert len(closed.asked) == 1
    assert isinstance(existing, Existing)


async def test_a_holder_on_its_way_is_joined_once_it_runs() -> None:
    """Between its claim and its admission lie milliseconds."""
    ledger = _Ledger(_UNSEEN, _RUNNING)

    assert await _claims(ledger).claim(_wish()) == Existing("first", LATER, None)


async def test_who_does_not_wait_hears_at_once_that_it_is_in_flight() -> None:
    """One look, no pause."""
    ledger = _Ledger(_UNSEEN)
    standing = await _claims(ledger).claim(_wish(may_wait=False))

    assert standing == Existing("first", LATER, None, is_unseen=True)
    assert len(ledger.asked) == 1


async def test_a_holder_that_is_parked_in_the_log_is_joined_within_a_moment() -> None:
    """It waits for a limit; the ledger learns that another waits for it too."""
    ledger, lookup = _Ledger(_UNSEEN), _Recollection(is_in_log=True)
    async with asyncio.timeout(1):
        standing = await _claims(ledger, lookup).claim(_wish())

    assert standing == Existing("first", LATER, None, is_unseen=True)
    assert [asked.joins for asked in ledger.asked].count(True) == 1
    assert ledger.asked[-1].joins
    assert lookup.asked == 1


async def test_what_is_taken_over_is_not_produced_again_when_the_log_has_it() -> None:
    """Its copy will be decided: a second one would only be thrown away."""
    ledger = _Ledger(answers.Claimed(req="first", deadline_ms=LATER))
    claims = _claims(ledger, _Recollection(is_in_log=True))

    assert await claims.claim(_wish()) == Existing("first", LATER, None)


async def test_a_holder_that_was_not_decided_by_its_deadline_gives_its_key_back() -> None:
    """Nothing is admitted past it, whatever still stands in the log."""
    gone = answers.Held(req="first", state="", deadline_ms=9_000)
    ledger = _Ledger(gone, answers.Claimed(req="second", deadline_ms=LATER))

    assert await _claims(ledger).claim(_wish()) == Acquired("second", LATER)
    assert ledger.released == ["first"]
