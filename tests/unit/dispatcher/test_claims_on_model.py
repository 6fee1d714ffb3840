"""Claims and leases on the ledger's model: who runs a request, for how long, and who succeeds it."""

from __future__ import annotations

import asyncio

import pytest

from dispatcher.claims import claiming
from dispatcher.claims.claiming import Claiming
from dispatcher.work import AdmittedRequest
from schemas.ledger import answers, documents
from schemas.times import FULL
from tests.support.scripted_backend import answering
from tests.unit.dispatcher.dispatch_scene import HELD_NANO_USD, DispatchScene, dispatch_scene

_WELL = answering(200, b"{}")
LEASE_MS = FULL.ledger.attempt_lease_ms


@pytest.fixture(autouse=True)
def _asks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waits for another's lease looks again at once; the clock is the test's."""
    monkeypatch.setattr(claiming, "_pause_s", lambda left_ms, lease_ms: 0.005)


def _look_at(scene: DispatchScene, from_ms: int, to_ms: int) -> None:
    """Look at the ledger as the limiter does, so that the time that passes is no outage."""
    for at_ms in range(from_ms, to_ms + 1, LEASE_MS // 3):
        scene.store.model.reap(documents.Reap(limit=0), at_ms * 1_000)


def _pass_by(scene: DispatchScene, ms: int) -> None:
    now_ms = scene.clock.now_ms()
    _look_at(scene, now_ms, now_ms + ms)
    scene.clock.ahead_ms += ms


async def _other_claims(scene: DispatchScene, job: AdmittedRequest) -> answers.StartAnswer:
    other = Claiming(scene.store.client(), scene.clock, "dispatcher-1")
    return await other.claim(job, scene.closing.is_in_log)


async def test_a_claim_whose_answer_was_lost_is_ours() -> None:
    """Found busy under our own name, it holds; nobody waits for its lease."""
    async with dispatch_scene(first=_WELL) as scene:
        job = await scene.admitted()
        scene.store.loses = {"tg1_start"}
        claim = await scene.claim(job)

    assert isinstance(claim, answers.Fence)
    assert claim.attempt == 1


async def test_who_comes_second_waits_for_the_lease_and_succeeds() -> None:
    """What the vanished owner may have spent is booked whole, under a higher fence."""
    async with dispatch_scene(first=_WELL) as scene:
        job = await scene.admitted(deadline_ms=scene.clock.now_ms() + 120_000)
        first = await scene.claim(job)
        waiting = asyncio.create_task(_other_claims(scene, job))
        await asyncio.sleep(0.03)
        has_waited = not waiting.done()
        _pass_by(scene, LEASE_MS + 1_000)
        second = await waiting

    assert has_waited
    assert isinstance(first, answers.Fence)
    assert isinstance(second, answers.Fence)
    assert (second.attempt, second.fence > first.fence) == (2, True)
    assert scene.balance() == (HELD_NANO_USD, HELD_NANO_USD)


async def test_a_lease_that_is_renewed_is_nobody_elses() -> None:
    """However long the call takes."""
    async with dispatch_scene(first=_WELL) as scene:
        job = await scene.admitted(deadline_ms=scene.clock.now_ms() + 120_000)
        claim = await scene.claim(job)
        assert isinstance(claim, answers.Fence)
        with scene.leases.held(job, claim) as running:
            waiting = asyncio.create_task(_other_claims(scene, job))
            for _ in range(4):
                _pass_by(scene, LEASE_MS * 2 // 3)
                await scene.leases._renew()
                await asyncio.sleep(0.02)
            still_waits = not waiting.done()
        waiting.cancel()

    assert still_waits
    assert running.abort.reason is None


async def test_an_owner_that_was_succeeded_is_told_with_its_next_renewal() -> None:
    """Its call is ended: what it relays nobody reads any more."""
    async with dispatch_scene(first=_WELL) as scene:
        job = await scene.admitted(deadline_ms=scene.clock.now_ms() + 120_000)
        claim = await scene.claim(job)
        assert isinstance(claim, answers.Fence)
        with scene.leases.held(job, claim) as running:
            _pass_by(scene, LEASE_MS + 1_000)
            await _other_claims(scene, job)
            await scene.leases._renew()

    assert running.abort.reason == "stale"


async def test_a_cancelled_call_is_told_with_its_next_renewal() -> None:
    """Also where the signal over the bus was lost."""
    async with dispatch_scene(first=_WELL) as scene:
        job = await scene.admitted()
        request = job.request
        claim = await scene.claim(job)
        assert isinstance(claim, answers.Fence)
        with scene.leases.held(job, claim) as running:
            await scene.store.client().cancel(
                documents.Cancel(
                    org=request.org, req=request.request_id, deadline_ms=request.deadline_ms
                )
            )
            await scene.leases._renew()

    assert running.abort.reason == "cancelled"


async def test_a_lost_claim_lets_no_content_out() -> None:
    """Asked before the first byte leaves, the ledger says that another has it."""
    async with dispatch_scene(first=_WELL) as scene:
        job = await scene.admitted(deadline_ms=scene.clock.now_ms() + 120_000)
        claim = await scene.claim(job)
        assert isinstance(claim, answers.Fence)
        with scene.leases.held(job, claim) as running:
            _pass_by(scene, LEASE_MS + 1_000)
            await _other_claims(scene, job)
            may_leave = await scene.leases.note_streamed(running)

    assert not may_leave


async def test_a_ledger_that_forgot_the_request_takes_it_again() -> None:
    """With its hold, so that nothing runs that is not held."""
    async with dispatch_scene(first=_WELL) as scene:
        job = await scene.admitted()
        scene.store.wipe()
        claim = await scene.claim(job)

    assert isinstance(claim, answers.Fence)
    assert scene.balance() == (0, HELD_NANO_USD)
