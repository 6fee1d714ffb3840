"""How requests are closed: the ledger first, then one end for the client and one outcome in the log."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from schemas.errors import ErrorCode
from schemas.ledger import documents
from schemas.ledger.errors import LedgerUnavailable
from tests.support.scripted_backend import answering
from tests.unit.dispatcher.dispatch_scene import HELD_NANO_USD, RECORD, dispatch_scene

_BODY = b'{"choices":[{"message":{"content":"hi"}}],"usage":{"prompt_tokens":12,"completion_tokens":34}}'
_WELL = answering(200, _BODY)
_COST_NANO_USD = 228_000


async def test_what_was_used_is_settled_and_the_rest_of_the_hold_returns() -> None:
    """One end, one outcome, and the ledger's state says so."""
    async with dispatch_scene(first=_WELL) as scene:
        job = await scene.admitted()
        assert scene.balance() == (0, HELD_NANO_USD)
        await scene.end(job)

    assert scene.balance() == (_COST_NANO_USD, 0)
    assert scene.bus.end.body == _BODY
    assert [end.status for end in scene.log.outcomes] == ["completed"]
    assert scene.store.state_of(job.request.request_id) == "FINISHED"


async def test_an_end_whose_answer_was_lost_is_booked_once() -> None:
    """The ledger closed it, its answer did not come: asked again it says what it has."""
    async with dispatch_scene(first=_WELL) as scene:
        job = await scene.admitted()
        ran = await scene.run(job)
        scene.store.loses = {"tg1_finish"}
        await scene.close(job, ran)

    assert scene.store.called.count("tg1_finish") == 2
    assert scene.balance() == (_COST_NANO_USD, 0)
    assert len(scene.log.outcomes) == 1
    assert scene.bus.end.body == _BODY


async def test_a_ledger_that_forgot_the_request_books_all_of_it() -> None:
    """It takes the hold again, and what was used is settled from it."""
    async with dispatch_scene(first=_WELL) as scene:
        job = await scene.admitted()
        ran = await scene.run(job)
        scene.store.wipe()
        await scene.close(job, ran)

    assert scene.balance() == (_COST_NANO_USD, 0)
    assert [end.status for end in scene.log.outcomes] == ["completed"]


async def test_an_end_after_the_claim_was_lost_is_corrected_and_not_told() -> None:
    """Somebody else ended it at its hold: the log gets the difference, the client nothing from us."""
    async with dispatch_scene(first=_WELL) as scene:
        job = await scene.admitted()
        ran = await scene.run(job)
        now_us = (scene.clock.now_ms() + 60_000) * 1_000
        scene.store.model.reap(documents.Reap(limit=9), scene.clock.now_ms() * 1_000)
        for seconds in range(5, 61, 5):
            at_us = now_us - 60_000_000 + seconds * 1_000_000
            scene.store.model.reap(documents.Reap(limit=9), at_us)
        await scene.close(job, ran)

    assert scene.balance() == (HELD_NANO_USD, 0)
    assert scene.log.outcomes == []
    corrected = [change.delta.cost_nano_usd for change in scene.log.corrections]
    assert sum(cost or 0 for cost in corrected) == _COST_NANO_USD - HELD_NANO_USD
    assert scene.bus.frames == []


async def test_an_outcome_does_not_wait_for_a_bus_that_hangs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It goes to the log beside the answer, and the record is held until the client is told."""
    async with dispatch_scene(first=_WELL) as scene:
        job = await scene.admitted()
        ran = await scene.run(job)
        hangs = asyncio.Event()

        async def send(*_: Any, **__: Any) -> bool:
            return await hangs.wait()

        monkeypatch.setattr(scene.bus, "send", send)
        closing = asyncio.create_task(scene.close(job, ran))
        while not scene.log.outcomes:  # noqa: ASYNC110  # the test's own deadline ends it
            await asyncio.sleep(0)
        assert not closing.done()
        hangs.set()
        await closing


async def test_an_answer_that_no_bus_takes_does_not_keep_the_outcome_from_the_log(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nor does one that fails in a way that nobody reckoned with, twice."""
    async with dispatch_scene(first=_WELL) as scene:
        job = await scene.admitted()
        ran = await scene.run(job)
        monkeypatch.setattr(scene.bus, "send", None)
        await scene.close(job, ran)

    assert [end.status for end in scene.log.outcomes] == ["completed"]


async def test_a_request_that_a_defect_stopped_gives_its_hold_back() -> None:
    """Its client hears 500, and its outcome costs nothing."""
    async with dispatch_scene(first=_WELL) as scene:
        job = await scene.admitted()
        await scene.closing.end_broken(job, RECORD)

    assert scene.balance() == (0, 0)
    assert scene.bus.end.error_code == ErrorCode.INTERNAL_ERROR
    assert [(end.status, end.bookings[0].amount) for end in scene.log.outcomes] == [("failed", 0)]


async def test_a_defect_beside_a_running_request_ends_nothing() -> None:
    """Whoever runs it would obey a cancellation, so nobody cancels it."""
    async with dispatch_scene(first=_WELL) as scene:
        job = await scene.admitted()
        await scene.claim(job)
        await scene.closing.end_broken(job, RECORD)

    assert scene.store.state_of(job.request.request_id) == "RUNNING"
    assert (scene.bus.frames, scene.log.outcomes) == ([], [])


async def test_closing_waits_for_a_ledger_that_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was spent must be known; after the longest wait the record stays for another process."""
    monkeypatch.setattr("dispatcher.settlement.settling.AS_LONG_AS_IT_TAKES_S", 0.2)
    async with dispatch_scene(first=_WELL) as scene:
        job = await scene.admitted()
        ran = await scene.run(job)
        scene.store.is_away = True
        with pytest.raises(LedgerUnavailable):
            await scene.close(job, ran)

    assert (scene.bus.frames, scene.log.outcomes) == ([], [])


_EVENTS = b'data: {"choices":[{"index":0,"delta":{"content":"hi"},"finish_reason":"stop"}]}\n\n'


async def test_a_streamed_answer_is_kept_as_one_but_never_told_as_one() -> None:
    """Its client has it in frames; whoever has lost those is not told that a whole stream ended here."""
    async with dispatch_scene(first=answering(200, _EVENTS + b"data: [DONE]\n\n")) as scene:
        job = await scene.admitted(stream=True, shown=b"[{}]")
        await scene.end(job)
        (finished,) = scene.log.outcomes
        told = scene.bus.end
        scene.bus.frames.clear()
        await scene.closing.answering.repeat(job, finished)

    kept = json.loads(finished.result or b"")
    assert kept["choices"][0]["message"]["content"] == "hi"
    assert (told.body, told.error_code) == (b"", None)
    assert scene.bus.end.error_code == ErrorCode.RESULT_LOST
