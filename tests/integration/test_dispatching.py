"""From an admitted record to its outcome, on a real ledger: failover, cancels, lost claims, the stop."""

from __future__ import annotations

import asyncio
import time
from typing import cast

import pytest
from aiohttp import web

from schemas.config_state import Snapshot
from schemas.events import RequestAdmitted
from schemas.frames import Chunk, Terminal
from schemas.ledger import answers, documents
from schemas.runtime.valkey.bus import cancel_channel_of
from schemas.runtime.valkey.subscription import Subscription
from tests.integration.dispatch_bench import (
    CONFIG_OFFSET,
    HELD_NANO_USD,
    Bench,
    LateConfig,
    bench,
)
from tests.integration.well_answered import BODY, CHUNK, COST_NANO_USD, END, WELL
from tests.support.harness.ledger_server import LedgerServer, free_port
from tests.support.scripted_backend import answering


class Gate:
    """A backend that answers when it is told; a stream sends one chunk before."""

    def __init__(self, *, stream: bool = False) -> None:
        self.reached = asyncio.Event()
        self.opened = asyncio.Event()
        self._is_stream = stream

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if not self._is_stream:
            self.reached.set()
            await self.opened.wait()
            return web.Response(body=BODY)
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        await response.write(CHUNK)
        self.reached.set()
        await self.opened.wait()
        await response.write(CHUNK + END)
        return response


async def _taken_over(scene: Bench, request: RequestAdmitted) -> answers.StartAnswer:
    """What another dispatcher is told once the lease of this one is over."""
    return await scene.ledger.start(
        documents.Start(
            org=request.org,
            req=request.request_id,
            owner="dispatcher-1/x",
            lease_ms=10_000,
            second_attempt=tuple(
                documents.Balance(
                    key=hold.key,
                    unit=hold.unit,  # type: ignore[arg-type]
                    amount=hold.amount,
                    start_ms=hold.start_ms,
                    end_ms=hold.end_ms,
                )
                for hold in request.holds
            ),
            now_us=(time.time_ns() // 1_000) + 11_000_000,
        )
    )


async def test_a_refused_connection_moves_the_hold_to_the_next_backend(
    server: LedgerServer,
) -> None:
    """There is room for one hold only, and the request succeeds all the same."""
    nobody = f"http://127.0.0.1:{free_port()}"
    async with bench(server, first=nobody, second=WELL) as scene:
        request = await scene.admit(limit=HELD_NANO_USD)
        outcome = await scene.dispatch(request)

        assert [(a.backend, a.status) for a in outcome.attempts] == [
            ("first", "failed"),
            ("second", "succeeded"),
        ]
        assert await scene.balance(request, "nano_usd") == (COST_NANO_USD, 0)
        assert await scene.balance(request, "requests") == (1, 0)


async def test_a_second_attempt_needs_a_second_hold_when_the_first_may_have_spent(
    server: LedgerServer,
) -> None:
    """Without room for it the first failure is the answer, and what it cost is booked."""
    garbage = answering(200, b"<html>")
    async with bench(server, first=garbage, second=WELL) as scene:
        request = await scene.admit(limit=HELD_NANO_USD)
        outcome = await scene.dispatch(request)

        assert [a.backend for a in outcome.attempts] == ["first"]
        assert outcome.error_code == "upstream_error"
        assert await scene.balance(request, "nano_usd") == (outcome.attempts[0].cost_nano_usd, 0)


async def test_what_was_admitted_under_a_newer_configuration_waits_for_it(
    server: LedgerServer,
) -> None:
    """Its model may be one that this process does not know yet."""
    async with bench(server, first=WELL) as scene:
        config = cast("LateConfig", scene.backends.config)
        known = config.snapshot
        config.snapshot, config.awaited = Snapshot(offset=CONFIG_OFFSET - 1), known
        outcome = await scene.dispatch(await scene.admit())

        assert (outcome.status, [a.backend for a in outcome.attempts]) == ("completed", ["first"])


async def test_a_backend_that_hangs_is_left_for_another(server: LedgerServer) -> None:
    """After its own timeout, since nothing was streamed yet."""
    gate = Gate()
    async with bench(server, timeout_s=0.3, first=gate.answer, second=WELL) as scene:
        request = await scene.admit()
        outcome = await scene.dispatch(request)
        gate.opened.set()

        assert (outcome.status, len(outcome.attempts)) == ("completed", 2)
        costs = [a.cost_nano_usd or 0 for a in outcome.attempts]
        assert await scene.balance(request, "nano_usd") == (sum(costs), 0)
        assert {b.unit: b.amount for b in outcome.bookings}["nano_usd"] == sum(costs)


async def test_a_request_without_any_backend_is_refused_and_its_hold_returns(
    server: LedgerServer,
) -> None:
    """503 with a hint when to come back."""
    async with bench(server) as scene:
        request = await scene.admit()
        outcome = await scene.dispatch(request)
        (frame,) = await scene.frames(request)

        assert (outcome.http_status, outcome.attempts) == (503, [])
        assert isinstance(frame.content, Terminal)
        assert frame.content.retry_after_ms is not None
        assert await scene.balance(request, "nano_usd") == (0, 0)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_a_cancel_over_the_bus_ends_the_call_and_books_it(
    server: LedgerServer, stream: bool
) -> None:
    """At once where nothing was answered; a stream is read on for the backend's own count."""
    gate = Gate(stream=stream)
    async with bench(server, only=gate.answer) as scene:
        cancel_signal = _cancel_signal(server, scene)
        await cancel_signal.start()
        request = await scene.admit(stream=stream)
        record = await scene.hand_over(request)
        await gate.reached.wait()
        if stream:
            await _until_chunk(scene, request)
        await scene.bus.tell_cancelled("dispatcher-0/x", request.request_id)
        if stream:
            await asyncio.sleep(0.1)
            gate.opened.set()
        await asyncio.wait_for(record.finished.wait(), 0.5)
        gate.opened.set()
        await cancel_signal.stop()
        (outcome,) = scene.log.outcomes
        (attempt,) = outcome.attempts

        assert (outcome.status, outcome.error_code) == ("cancelled", "request_cancelled")
        assert attempt.estimated != stream
        assert attempt.output_tokens == (34 if stream else 0)
        assert await scene.balance(request, "nano_usd") == (attempt.cost_nano_usd, 0)
        frames = [frame.content for frame in await scene.frames(request)]
        assert sum(isinstance(f, Chunk) for f in frames) == (2 if stream else 0)
        assert isinstance(frames[-1], Terminal)


async def test_a_cancel_whose_bell_was_lost_is_seen_at_the_next_renewal(
    server: LedgerServer,
) -> None:
    """The ledger's flag is what counts."""
    gate = Gate()
    async with bench(server, only=gate.answer) as scene:
        keeping = asyncio.create_task(scene.leases.keep())
        request = await scene.admit()
        record = await scene.hand_over(request)
        await gate.reached.wait()
        await scene.ledger.cancel(
            documents.Cancel(org=request.org, req=request.request_id, deadline_ms=2**50)
        )
        await asyncio.wait_for(record.finished.wait(), 5)
        gate.opened.set()
        keeping.cancel()

        assert [o.status for o in scene.log.outcomes] == ["cancelled"]


async def test_a_claim_that_was_lost_is_corrected_to_the_real_use(server: LedgerServer) -> None:
    """Another dispatcher booked the whole hold; once the log is booked the ledger has both real costs."""
    gate = Gate()
    async with bench(server, only=gate.answer) as scene:
        request = await scene.admit()
        record = await scene.hand_over(request)
        await gate.reached.wait()
        verdict = await _taken_over(scene, request)
        booked = await scene.balance(request, "nano_usd")
        gate.opened.set()
        await asyncio.wait_for(record.finished.wait(), 5)

        assert isinstance(verdict, answers.Fence)
        assert booked == (HELD_NANO_USD, HELD_NANO_USD)
        assert await scene.balance(request, "nano_usd") == (HELD_NANO_USD, HELD_NANO_USD)
        await scene.book()
        assert await scene.balance(request, "nano_usd") == (COST_NANO_USD, HELD_NANO_USD)
        assert await scene.balance(request, "requests") == (1, 0)
        assert scene.log.outcomes == []
        assert [c.delta.cost_nano_usd for c in scene.log.corrections] == [
            -HELD_NANO_USD,
            COST_NANO_USD,
        ]
        assert not any(isinstance(f.content, Terminal) for f in await scene.frames(request))


async def test_a_stream_whose_claim_was_lost_ends_with_a_typed_error(server: LedgerServer) -> None:
    """Its client has seen frames that nobody continues; the outcome is somebody else's."""
    gate = Gate(stream=True)
    async with bench(server, only=gate.answer) as scene:
        request = await scene.admit(stream=True)
        record = await scene.hand_over(request)
        await gate.reached.wait()
        await _until_chunk(scene, request)
        verdict = await _taken_over(scene, request)
        gate.opened.set()
        await asyncio.wait_for(record.finished.wait(), 5)
        frames = await scene.frames(request)

        assert isinstance(verdict, answers.Unknown)
        assert scene.log.outcomes == []
        assert [c.delta.cost_nano_usd for c in scene.log.corrections] == [
            -HELD_NANO_USD,
            COST_NANO_USD,
        ]
        assert isinstance(frames[-1].content, Terminal)
        assert frames[-1].content.error_code == "upstream_interrupted"
        assert [frame.seq for frame in frames] == list(range(1, len(frames) + 1))


async def test_whoever_takes_over_records_the_attempt_that_was_given_up(
    server: LedgerServer,
) -> None:
    """What the outcome books is what the ledger has settled."""
    async with bench(server, only=WELL) as scene:
        request = await scene.admit()
        vanished = await scene.ledger.start(
            documents.Start(
                org=request.org, req=request.request_id, owner="dispatcher-1/x", lease_ms=1
            )
        )
        await asyncio.sleep(0.01)
        outcome = await scene.dispatch(request)

        assert isinstance(vanished, answers.Fence)
        assert [a.status for a in outcome.attempts] == ["unknown", "succeeded"]
        settled = {
            unit: (await scene.balance(request, unit))[0]
            for unit in ("nano_usd", "tokens", "requests")
        }
        assert {b.unit: b.amount for b in outcome.bookings} == settled
        assert settled == {
            "nano_usd": HELD_NANO_USD + COST_NANO_USD,
            "tokens": 1_546,
            "requests": 1,
        }


async def test_what_still_runs_when_the_process_stops_ends_with_a_typed_error(
    server: LedgerServer,
) -> None:
    """And is booked; a request that is claimed afterwards calls nobody."""
    gate = Gate()
    async with bench(server, only=gate.answer) as scene:
        request = await scene.admit()
        record = await scene.hand_over(request)
        await gate.reached.wait()
        scene.leases.end_all()
        await asyncio.wait_for(record.finished.wait(), 0.5)
        late = await scene.admit(request_id="018bcfe5-6800-7000-8000-000000000002")
        await asyncio.wait_for((await scene.hand_over(late)).finished.wait(), 1)
        gate.opened.set()
        first, second = scene.log.outcomes

        assert (first.error_code, second.error_code) == ("service_unavailable",) * 2
        assert (len(first.attempts), len(second.attempts)) == (1, 0)
        assert (await scene.balance(request, "nano_usd"))[1] == 0


async def test_what_was_spent_is_booked_when_the_ledger_comes_back(server: LedgerServer) -> None:
    """Ledger and bus are away when the call ends; its record is not let go until then."""
    gate = Gate()
    async with bench(server, only=gate.answer) as scene:
        request = await scene.admit()
        record = await scene.hand_over(request)
        await gate.reached.wait()
        await asyncio.to_thread(server.kill)
        gate.opened.set()
        await asyncio.sleep(0.3)
        was_finished = record.finished.is_set()
        await asyncio.to_thread(server.start)
        await asyncio.wait_for(record.finished.wait(), 10)

        assert not was_finished
        assert [o.status for o in scene.log.outcomes] == ["completed"]
        assert await scene.balance(request, "nano_usd") == (COST_NANO_USD, 0)
        assert isinstance((await scene.frames(request))[-1].content, Terminal)


def _cancel_signal(server: LedgerServer, scene: Bench) -> Subscription:
    return Subscription(
        f"redis://127.0.0.1:{server.port}/1",
        cancel_channel_of("dispatcher-0"),
        lambda message: scene.leases.end(message.decode(), "cancelled"),
        lambda: None,
    )


async def _until_chunk(scene: Bench, request: RequestAdmitted) -> None:
    async with asyncio.timeout(5):
        while not any(isinstance(f.content, Chunk) for f in await scene.frames(request)):  # noqa: ASYNC110  # another process's stream
            await asyncio.sleep(0.01)
