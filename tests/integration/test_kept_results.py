"""Results that are kept: where each stands, and what becomes of one that no broker takes."""

from __future__ import annotations

import asyncio
import json

import pytest

from schemas.frames import Terminal
from schemas.ledger import documents
from tests.integration.dispatch_bench import (
    bench,
)
from tests.integration.well_answered import BODY, COST_NANO_USD, USAGE, WELL
from tests.support.harness.ledger_server import LedgerServer
from tests.support.scripted_backend import answering

_LARGE = json.dumps({"choices": [{"message": {"content": "x" * 50_000}}], "usage": USAGE}).encode()


async def test_a_large_result_that_is_kept_stands_beside_its_outcome(server: LedgerServer) -> None:
    """Acknowledged before the ledger is told, which keeps a reference in its place."""
    async with bench(server, first=answering(200, _LARGE)) as scene:
        request = await scene.admit(keep_result=True)
        outcome = await scene.dispatch(request)
        kept = await scene.ledger.look(documents.Look(org=request.org, req=request.request_id))

        (result, record) = scene.log.records
        (told,) = (
            f.content for f in await scene.frames(request) if isinstance(f.content, Terminal)
        )
        assert (result.topic, record.topic) == ("inference.results.v1", "inference.outcomes.v1")
        assert (result.value, outcome.result) == (told.body, None)
        assert outcome.result_ref is not None
        assert (outcome.result_ref.topic, outcome.result_ref.offset) == (result.topic, 0)
        assert len(kept.outcome) < 2_000


async def test_a_small_result_travels_in_its_outcome_and_an_unkept_one_nowhere(
    server: LedgerServer,
) -> None:
    """No record more than before."""
    for keeps in (True, False):
        async with bench(server, first=WELL) as scene:
            outcome = await scene.dispatch(await scene.admit(keep_result=keeps))

            assert (outcome.result is not None, outcome.result_ref) == (keeps, None)
            assert len(scene.log.records) == 1


async def test_a_result_that_no_broker_takes_costs_itself_only(server: LedgerServer) -> None:
    """The client has its answer, the books are right, and a later lookup says that it is lost."""
    async with bench(server, first=answering(200, _LARGE)) as scene:
        scene.log.refuses = "inference.results.v1"
        request = await scene.admit(keep_result=True)
        outcome = await scene.dispatch(request)

        assert (outcome.status, outcome.result, outcome.result_ref) == ("completed", None, None)
        assert await scene.balance(request, "nano_usd") == (COST_NANO_USD, 0)


@pytest.mark.parametrize("body", [BODY, _LARGE])
@pytest.mark.parametrize("is_booked", [True, False])
async def test_a_redelivered_request_is_answered_again_from_where_its_result_stands(
    server: LedgerServer, body: bytes, is_booked: bool
) -> None:
    """From the ledger until it is booked, then from the log; its frames were lost."""
    async with bench(server, first=answering(200, body)) as scene:
        request = await scene.admit(keep_result=True)
        await scene.dispatch(request)
        (before,) = (
            f.content for f in await scene.frames(request) if isinstance(f.content, Terminal)
        )
        if is_booked:
            row = documents.OutcomeRow(
                offset=len(scene.log.records) - 1,
                at_ms=0,
                req=request.request_id,
                deadline_ms=0,
            )
            await scene.ledger.book(documents.Book(org=request.org, partition=0, rows=(row,)))
        await scene.bus.store.call("FLUSHDB")
        again = await scene.hand_over(request)
        await asyncio.wait_for(again.finished.wait(), 15)

        (told,) = (
            f.content for f in await scene.frames(request) if isinstance(f.content, Terminal)
        )
        assert (told.http_status, told.body) == (200, before.body)
