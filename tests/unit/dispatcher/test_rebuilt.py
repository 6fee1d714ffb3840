"""A ledger that lost its data and was rebuilt while requests ran: on its model, with backends in the loop.

What is booked is what the backends were paid for, whoever ends the request and whatever the ledger knew.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from accounting.booking import entry_of
from dispatcher.claims import claiming
from dispatcher.claims.claiming import Claiming, balances
from dispatcher.work import AdmittedRequest
from schemas.events import AttemptAdjusted, RecordRef, RequestFinished
from schemas.ledger import answers
from schemas.ledger.documents import Book, Cancel, NextAttempt, Reap, Restore, RestoredRequest
from schemas.ledger.model.ledger import LedgerModel
from schemas.times import FULL
from tests.support.scripted_backend import answering
from tests.unit.dispatcher.dispatch_scene import (
    HELD_NANO_USD,
    MONEY,
    DispatchScene,
    dispatch_scene,
)

_BODY = b'{"choices":[{"message":{"content":"hi"}}],"usage":{"prompt_tokens":12,"completion_tokens":34}}'
_WELL = answering(200, _BODY)
_COST_NANO_USD = 228_000
LEASE_MS = FULL.ledger.attempt_lease_ms


@pytest.fixture(autouse=True)
def _asks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waits looks again at once; the clock is the test's."""
    monkeypatch.setattr(claiming, "_pause_s", lambda left_ms, lease_ms: 0.005)


def rebuild(scene: DispatchScene, *jobs: AdmittedRequest) -> None:
    """Another life of the ledger, in which these requests were found open."""
    scene.store.model = model = LedgerModel(epoch=2)
    model.ready_ms = scene.clock.now_ms()
    entries = [
        RestoredRequest(
            org=job.request.org,
            req=job.request.request_id,
            deadline_ms=job.request.deadline_ms,
            accepted_ms=job.request.accepted_at_ms,
            balances=balances(job),
        )
        for job in jobs
    ]
    model.restore(Restore(building="", attempts=tuple(entries)))


def book(scene: DispatchScene) -> tuple[int, int, int]:
    """Book what the log has; nano-USD that are settled, that are held, and that the log says were used."""
    events: list[RequestFinished | AttemptAdjusted] = [*scene.log.outcomes, *scene.log.corrections]
    for offset, event in enumerate(events):
        place = RecordRef(topic="", partition=0, offset=offset)
        row = entry_of(event, place, scene.clock.now_ms()).row
        scene.store.model.book(Book(org=event.org, partition=0, rows=(row,)))
    balance = scene.store.model.limits.balances["acme", MONEY]
    total = scene.store.model.limits.totals["acme", MONEY]
    return balance["settled"], balance["reserved"] + balance["spare"], total["settled"]


def pass_by(scene: DispatchScene, ms: int) -> None:
    """Time in which the ledger is looked at, so that it is no outage."""
    now_ms = scene.clock.now_ms()
    for at_ms in range(now_ms, now_ms + ms + 1, LEASE_MS // 3):
        scene.store.model.reap(Reap(limit=0), at_ms * 1_000)
    scene.clock.ahead_ms += ms


class Gate:
    """A backend that answers when the test says so."""

    def __init__(self) -> None:
        self.asked, self.open = asyncio.Event(), asyncio.Event()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.asked.set()
        await self.open.wait()
        return await _WELL(request)


@asynccontextmanager
async def running(
    scene: DispatchScene, job: AdmittedRequest, gate: Gate
) -> AsyncIterator[Callable[[], None]]:
    """The request runs in its backend inside the block, and has ended after it."""
    ending = asyncio.create_task(scene.end(job))
    await asyncio.wait_for(gate.asked.wait(), 5)
    yield gate.open.set
    gate.open.set()
    await asyncio.wait_for(ending, 5)


async def _breaks_off(request: web.Request) -> web.StreamResponse:
    """Takes the request and says nothing: what it spent nobody knows."""
    assert request.transport is not None
    await request.read()
    request.transport.abort()
    return web.Response()


@pytest.mark.parametrize("is_renewed", [True, False], ids=["with a renewal", "with its end"])
async def test_an_owner_attaches_and_ends_as_if_nothing_had_been(is_renewed: bool) -> None:
    """Under the fence its client's frames have."""
    gate = Gate()
    async with dispatch_scene(first=gate.answer) as scene:
        job = await scene.admitted(limit=HELD_NANO_USD)
        async with running(scene, job, gate):
            rebuild(scene, job)
            if is_renewed:
                await scene.leases._renew()
                assert scene.store.state_of(job.request.request_id) == "RUNNING"

    assert {frame.fence for frame in scene.bus.frames} == {2**32 + 1}
    assert scene.bus.end.body == _BODY
    assert book(scene) == (_COST_NANO_USD, 0, _COST_NANO_USD)


async def test_a_second_attempt_says_what_the_first_one_cost() -> None:
    """Both fit in what was held, and both are booked."""
    gate = Gate()
    async with dispatch_scene(first=_breaks_off, second=gate.answer) as scene:
        job = await scene.admitted(limit=2 * HELD_NANO_USD)
        async with running(scene, job, gate):
            rebuild(scene, job)
            await scene.leases._renew()
            first = scene.store.balance(MONEY)

    assert (0 < first[0] <= HELD_NANO_USD, first[1]) == (True, HELD_NANO_USD)
    spent = first[0] + _COST_NANO_USD
    assert book(scene) == (spent, 0, spent)


async def test_a_failover_tells_a_rebuilt_ledger_of_the_first_attempt() -> None:
    """Then it asks for the second, as ever."""
    async with dispatch_scene(first=answering(503, b"{}"), second=_WELL) as scene:
        job = await scene.admitted(limit=2 * HELD_NANO_USD)
        whole = scene.failover.ledger.next_attempt
        asked: list[NextAttempt] = []

        async def after_a_loss(document: NextAttempt) -> answers.NextAttemptAnswer:
            if not asked:
                rebuild(scene, job)
            asked.append(document)
            return await whole(document)

        scene.failover.ledger.next_attempt = after_a_loss  # type: ignore[method-assign]
        history = await scene.end(job)

    assert [each.backend for each in history.attempts] == ["first", "second"]
    assert len(asked) == 2
    assert book(scene) == (_COST_NANO_USD, 0, _COST_NANO_USD)


async def test_an_end_does_not_wait_for_a_rebuild() -> None:
    """Its client is answered; the outcome says that nothing was settled, and settles it."""
    gate = Gate()
    async with dispatch_scene(first=gate.answer) as scene:
        job = await scene.admitted()
        async with running(scene, job, gate):
            scene.store.model.life.ready = False

        assert scene.bus.end.body == _BODY
        assert [end.unsettled for end in scene.log.outcomes] == [True]
        rebuild(scene, job)

    assert scene.store.balance(MONEY) == (0, HELD_NANO_USD)
    assert book(scene) == (_COST_NANO_USD, 0, _COST_NANO_USD)


async def test_a_stream_does_not_wait_for_a_rebuild() -> None:
    """Its first content is told with the attachment."""
    async with dispatch_scene(first=_WELL) as scene:
        job = await scene.admitted(stream=True)
        claim = await scene.claim(job)
        assert isinstance(claim, answers.Fence)
        with scene.leases.held(job, claim) as held:
            scene.store.model.life.ready = False
            goes_on = await scene.leases.note_streamed(held)
            rebuild(scene, job)
            await scene.leases._renew()

    assert goes_on
    assert scene.store.model.attempts["acme", job.request.request_id].streamed


async def test_a_cancellation_is_heard_with_the_attachment() -> None:
    """Nobody knew whom to tell."""
    async with dispatch_scene(first=_WELL) as scene:
        job = await scene.admitted()
        claim = await scene.claim(job)
        assert isinstance(claim, answers.Fence)
        with scene.leases.held(job, claim) as held:
            rebuild(scene, job)
            request = job.request
            cancel = Cancel(
                org=request.org, req=request.request_id, deadline_ms=request.deadline_ms
            )
            assert await scene.store.client().cancel(cancel) == answers.Running(owner="")
            await scene.leases._renew()

    assert held.abort.reason == "cancelled"


async def test_what_nobody_else_was_given_begins_at_once() -> None:
    """As its first attempt; nothing is charged for a time in which nobody ran it."""
    async with dispatch_scene(first=_WELL) as scene:
        job = await scene.admitted(limit=HELD_NANO_USD)
        rebuild(scene, job)
        scene.is_fresh = True
        history = await scene.end(job)

    assert [each.attempt for each in history.attempts] == [1]
    assert book(scene) == (_COST_NANO_USD, 0, _COST_NANO_USD)


async def test_what_another_may_have_run_waits_for_it_and_is_asked_of_the_log() -> None:
    """What ended while the ledger was closed is over."""
    gate = Gate()
    async with dispatch_scene(first=gate.answer) as scene:
        job = await scene.admitted(deadline_ms=scene.clock.now_ms() + 120_000)
        async with running(scene, job, gate):
            scene.store.model.life.ready = False
        rebuild(scene, job)
        other = Claiming(scene.store.client(), scene.clock, "dispatcher-1")
        waiting = asyncio.create_task(other.claim(job, scene.closing.is_in_log))
        await asyncio.sleep(0.03)
        has_waited = not waiting.done()
        pass_by(scene, 2 * LEASE_MS)
        verdict = await asyncio.wait_for(waiting, 5)

    assert (has_waited, verdict) == (True, answers.Gone())
    assert book(scene) == (_COST_NANO_USD, 0, _COST_NANO_USD)


async def test_a_zombie_and_its_successor_are_both_paid_for_and_both_fit() -> None:
    """The zombie's attempt was written off; what it really used is corrected when it wakes up."""
    gate = Gate()
    limit = 3 * HELD_NANO_USD
    async with dispatch_scene(first=gate.answer) as scene:
        job = await scene.admitted(limit=limit, deadline_ms=scene.clock.now_ms() + 120_000)
        zombie = asyncio.create_task(scene.run(job))
        await asyncio.wait_for(gate.asked.wait(), 5)
        rebuild(scene, job)
        pass_by(scene, 2 * LEASE_MS)
        gate.open.set()
        ran = await zombie
        await scene.end(job)
        held_at_most = scene.store.model.limits.balances["acme", MONEY]["settled"]
        await scene.close(job, ran)

    assert held_at_most == HELD_NANO_USD + _COST_NANO_USD
    assert [end.attempts[0].status for end in scene.log.outcomes] == ["unknown"]
    assert book(scene) == (2 * _COST_NANO_USD, 0, 2 * _COST_NANO_USD)


async def test_a_restored_stream_is_not_begun_anew() -> None:
    """Its client may have seen a byte; nobody remembers."""
    async with dispatch_scene(first=_WELL) as scene:
        job = await scene.admitted(stream=True, deadline_ms=scene.clock.now_ms() + 120_000)
        rebuild(scene, job)
        pass_by(scene, 2 * LEASE_MS)
        verdict = await scene.claim(job)

    assert verdict == answers.Unknown()
    assert scene.store.balance(MONEY) == (HELD_NANO_USD, 0)
