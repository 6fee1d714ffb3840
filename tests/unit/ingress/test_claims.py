"""Joining a request that may never have reached the log."""

from __future__ import annotations

from typing import cast

from ingress.claims import Claims, Earlier, Fresh, Wish
from ingress.idempotency import IdempotencyKey
from ingress.recollection import Memory, Open, Recollection
from schemas.runtime.clock import Clock
from schemas.runtime.ledger import answers, documents
from schemas.runtime.ledger.client import LedgerClient


class _Ledger:
    """Answers claims in turn; the last answer stays."""

    def __init__(self, *claims: answers.ClaimAnswer) -> None:
        self._claims = list(claims)
        self.asked: list[documents.Claim] = []

    async def claim(self, document: documents.Claim) -> answers.ClaimAnswer:
        self.asked.append(document)
        return self._claims.pop(0) if len(self._claims) > 1 else self._claims[0]


class _Recollection:
    """Knows of nothing that has ended."""

    clock = Clock()

    async def find(self, org: str, request_id: str, deadline_ms: int) -> Memory:
        return Open("queued")

    async def end_on_bus(self, request_id: str) -> None:
        return None


_UNSEEN = answers.Held(req="first", state="", deadline_ms=9_000)
_RUNNING = answers.Held(req="first", state="RUNNING", deadline_ms=9_000)


def _claims(ledger: _Ledger) -> Claims:
    return Claims(cast("LedgerClient", ledger), cast("Recollection", _Recollection()), 100)


def _wish(*, may_wait: bool = True) -> Wish:
    return Wish("acme", IdempotencyKey("hash", "print"), "second", 8_000, may_wait)


async def test_a_holder_that_never_reached_the_log_is_taken_over() -> None:
    """Its ingress died before the broker had it; whoever joined it would wait for nothing."""
    ledger = _Ledger(_UNSEEN, _UNSEEN, answers.Claimed(req="first", deadline_ms=9_000))

    assert await _claims(ledger).claim(_wish()) == Fresh("first", 9_000)
    assert ledger.asked[-1].produce_by_ms >= ledger.asked[0].produce_by_ms


async def test_a_holder_on_its_way_is_joined_once_it_runs() -> None:
    """Between its claim and its admission lie milliseconds."""
    ledger = _Ledger(_UNSEEN, _RUNNING)

    assert await _claims(ledger).claim(_wish()) == Earlier("first", 9_000, None)


async def test_who_does_not_wait_hears_at_once_that_it_is_in_flight() -> None:
    """One look, no pause."""
    ledger = _Ledger(_UNSEEN)
    standing = await _claims(ledger).claim(_wish(may_wait=False))

    assert standing == Earlier("first", 9_000, None, is_unseen=True)
    assert len(ledger.asked) == 1
