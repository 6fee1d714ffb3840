"""Ledger or bus are away while requests run: nobody but time suffers, and nothing is booked twice."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from aiohttp import web

from dispatcher.amounts import outcome
from dispatcher.work import AdmittedRequest, Result
from schemas.codec import decode_as, encode
from schemas.errors import ErrorCode
from schemas.events import RequestAccepted, RequestAdmitted
from schemas.frames import Chunk, Started, Terminal
from schemas.hold_facts import info_of
from schemas.ledger import answers, documents, keys
from schemas.ledger.errors import LedgerFault
from schemas.outgoing import Outgoing, outcome_record
from tests.integration.dispatch_bench import HELD_NANO_USD, Bench, Handed, bench
from tests.integration.well_answered import COST_NANO_USD, END, WELL
from tests.support.events import DISPATCHED_AT
from tests.support.harness.ledger_server import LedgerServer
from tests.support.one_shard import META_KEY, SHARD

_SILENCE_S = 0.6
"""The backend's own limit, shorter than any outage here."""
_CHUNKS = 20
_PAUSE_S = 0.1


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LedgerServer]:
    running = LedgerServer(Path(tmp_path_factory.mktemp("ledger")))
    running.start()
    yield running
    running.kill()


@pytest.fixture(scope="module")
def bus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LedgerServer]:
    running = LedgerServer(Path(tmp_path_factory.mktemp("bus")))
    running.start()
    yield running
    running.kill()


class Stream:
    """A backend that sends an event every tenth of a second; the first one when it is told."""

    def __init__(self) -> None:
        self.opened = asyncio.Event()
        self.under_way = asyncio.Event()

    @property
    def events(self) -> list[bytes]:
        return [b'data: {"choices":[{"delta":{"content":"%d"}}]}\n\n' % n for n in range(_CHUNKS)]

    async def answer(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        await self.opened.wait()
        for event in self.events:
            await response.write(event)
            await asyncio.sleep(_PAUSE_S)
            self.under_way.set()
        await response.write(END)
        return response


def _pause(server: LedgerServer, is_away: bool) -> None:
    assert server.process is not None
    server.process.send_signal(signal.SIGSTOP if is_away else signal.SIGCONT)


def _crash(server: LedgerServer, is_away: bool) -> None:
    if is_away:
        server.kill()
    else:
        server.start()


Outage = Callable[[LedgerServer, bool], None]
_OUTAGES = pytest.mark.parametrize("outage", [_crash, _pause], ids=["killed", "hanging"])


async def _relayed(scene: Bench, request: RequestAdmitted) -> bytes:
    frames = [frame.content for frame in await scene.frames(request)]
    return b"".join(frame.body for frame in frames if isinstance(frame, Chunk))


async def _under_way(scene: Bench, stream: Stream) -> tuple[RequestAdmitted, Handed]:
    """A request whose stream has begun."""
    request = await scene.admit(stream=True)
    record = await scene.hand_over(request)
    stream.opened.set()
    await stream.under_way.wait()
    return request, record


async def _streamed(scene: Bench, stream: Stream, request: RequestAdmitted) -> None:
    """The stream ended well, whole, once, and was booked at its real cost."""
    (finished,) = scene.log.outcomes
    (attempt,) = finished.attempts
    frames = await scene.frames(request)
    assert (finished.status, attempt.status) == ("completed", "succeeded")
    assert [frame.seq for frame in frames] == list(range(1, len(frames) + 1))
    assert isinstance(frames[0].content, Started)
    assert isinstance(frames[-1].content, Terminal)
    assert (await _relayed(scene, request)).startswith(b"".join(stream.events))
    assert await scene.balance(request, "nano_usd") == (COST_NANO_USD, 0)
    backend_state = scene.backends.states["only"].models["echo"]
    assert backend_state.breaker.state(time.monotonic()) == "closed"


@_OUTAGES
async def test_a_stream_runs_on_while_the_ledger_is_away(
    ledger: LedgerServer, bus: LedgerServer, outage: Outage
) -> None:
    """Its frames leave meanwhile; its end waits, and is booked once."""
    stream = Stream()
    async with bench(ledger, bus_server=bus, timeout_s=_SILENCE_S, only=stream.answer) as scene:
        request, record = await _under_way(scene, stream)
        await asyncio.to_thread(outage, ledger, True)
        await asyncio.sleep(_CHUNKS * _PAUSE_S + 0.3)
        relayed = await _relayed(scene, request)
        was_finished = record.finished.is_set()
        await asyncio.to_thread(outage, ledger, False)
        await asyncio.wait_for(record.finished.wait(), 10)

        assert relayed.startswith(b"".join(stream.events))
        assert not was_finished
        await _streamed(scene, stream, request)


@_OUTAGES
async def test_a_stream_runs_on_while_the_bus_is_away(
    ledger: LedgerServer, bus: LedgerServer, outage: Outage
) -> None:
    """Longer than the backend may be silent; a bus that lost everything gets the newest frames again."""
    stream = Stream()
    async with bench(ledger, bus_server=bus, timeout_s=_SILENCE_S, only=stream.answer) as scene:
        request, record = await _under_way(scene, stream)
        await asyncio.to_thread(outage, bus, True)
        await asyncio.sleep(_SILENCE_S + 0.9)
        await asyncio.to_thread(outage, bus, False)
        await asyncio.wait_for(record.finished.wait(), 15)

        await _streamed(scene, stream, request)


async def test_the_first_frame_of_a_claimed_request_waits_for_the_ledger(
    ledger: LedgerServer, bus: LedgerServer
) -> None:
    """No content without a note of it; the wait is neither the backend's silence nor its first byte."""
    stream = Stream()
    async with bench(ledger, bus_server=bus, timeout_s=_SILENCE_S, only=stream.answer) as scene:
        request = await scene.admit(stream=True)
        record = await scene.hand_over(request)
        await asyncio.sleep(0.2)
        await asyncio.to_thread(ledger.kill)
        began_ms = time.time_ns() // 1_000_000
        stream.opened.set()
        await asyncio.sleep(_SILENCE_S + 0.9)
        relayed = await _relayed(scene, request)
        await asyncio.to_thread(ledger.start)
        await asyncio.wait_for(record.finished.wait(), 15)

        assert relayed == b""
        await _streamed(scene, stream, request)
        first_token_at_ms = scene.log.outcomes[0].attempts[0].first_token_at_ms
        assert first_token_at_ms is not None
        assert first_token_at_ms - began_ms < 500


async def test_the_end_of_an_answer_waits_for_the_bus(
    ledger: LedgerServer, bus: LedgerServer
) -> None:
    """Its record is not let go before its client is told."""
    async with bench(ledger, bus_server=bus, only=WELL) as scene:
        request = await scene.admit()
        await asyncio.to_thread(bus.kill)
        record = await scene.hand_over(request)
        await asyncio.sleep(1.0)
        outcomes, was_finished = len(scene.log.outcomes), record.finished.is_set()
        await asyncio.to_thread(bus.start)
        await asyncio.wait_for(record.finished.wait(), 10)
        (frame,) = await scene.frames(request)

        assert (outcomes, was_finished) == (1, False)
        assert isinstance(frame.content, Terminal)
        assert frame.content.http_status == 200


async def test_a_claim_waits_for_the_ledger_beyond_the_deadline(
    ledger: LedgerServer, bus: LedgerServer
) -> None:
    """Whether it holds only the ledger can say: nothing is let go, and nothing is called any more."""
    async with bench(ledger, bus_server=bus, only=WELL) as scene:
        request = await scene.admit()
        accepted = decode_as(request.accepted, RequestAccepted)
        soon = msgspec.structs.replace(accepted, deadline_ms=time.time_ns() // 1_000_000 + 300)
        late = msgspec.structs.replace(request, accepted=encode(soon))
        await asyncio.to_thread(ledger.kill)
        record = await scene.hand_over(late)
        await asyncio.sleep(1.0)
        was_finished = record.finished.is_set()
        await asyncio.to_thread(ledger.start)
        await asyncio.wait_for(record.finished.wait(), 10)

        assert not was_finished
        assert [(o.error_code, o.attempts) for o in scene.log.outcomes] == [
            (ErrorCode.DEADLINE_EXCEEDED, [])
        ]
        assert await scene.balance(request, "nano_usd") == (0, 0)


async def test_an_outcome_that_no_broker_took_for_an_hour_is_left_to_the_next_process(
    ledger: LedgerServer, bus: LedgerServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This one ends with its record unfinished; the ledger has the outcome, and nobody is called again."""
    calls, ended = [], asyncio.Event()

    async def answer(request: web.Request) -> web.StreamResponse:
        calls.append(request)
        return await WELL(request)

    monkeypatch.setattr("os._exit", lambda _: ended.set())
    async with bench(ledger, bus_server=bus, only=answer) as scene:
        scene.log.is_away = True
        request = await scene.admit()
        record = await scene.hand_over(request)
        await asyncio.wait_for(ended.wait(), 10)
        known = await scene.ledger.look(documents.Look(org=request.org, req=request.request_id))
        told = [frame.content for frame in await scene.frames(request)]
        scene.log.is_away = False
        again = await scene.hand_over(request)
        await asyncio.wait_for(again.finished.wait(), 10)

        assert not record.finished.is_set()
        assert [content.http_status for content in told if isinstance(content, Terminal)] == [200]
        assert [each.value for each in scene.log.records] == [known.outcome]
        assert (len(calls), await scene.balance(request, "nano_usd")) == (1, (COST_NANO_USD, 0))


async def _forget(scene: Bench) -> None:
    """The ledger was rebuilt, without what was under way."""
    await scene.ledger._store.call("FLUSHALL")
    await scene.ledger._store.call("HSET", META_KEY, "epoch", "2", "ready", "1")


async def test_a_readmission_leaves_what_the_admission_left(
    ledger: LedgerServer, bus: LedgerServer
) -> None:
    """Whoever finds it alone can write its outcome, and it has its place among those that run."""
    stream = Stream()
    async with bench(ledger, bus_server=bus, only=stream.answer) as scene:
        request = await scene.admit(stream=True)
        accepted = decode_as(request.accepted, RequestAccepted)
        await _forget(scene)
        record = await scene.hand_over(request)
        async with asyncio.timeout(5):
            while not scene.leases.running:  # noqa: ASYNC110  # its claim is under way
                await asyncio.sleep(0.01)
        store, attempt = scene.ledger._store, keys.attempt(SHARD, request.org, request.request_id)
        info = await store.call("HGET", attempt, "info")
        places = keys.of_org(SHARD, request.org, keys.lease_suffix(keys.ORG_SCOPE))
        running = await store.call("ZCARD", places)
        stream.opened.set()
        await asyncio.wait_for(record.finished.wait(), 10)

        assert info.decode() == info_of(accepted, request.accepted_ref).encoded()
        assert (running, await store.call("ZCARD", places)) == (1, 0)
        await _streamed(scene, stream, request)


@pytest.mark.parametrize("is_known", [False, True], ids=["nowhere", "in the log"])
async def test_what_the_ledger_forgot_ends_as_the_log_says(
    ledger: LedgerServer, bus: LedgerServer, is_known: bool
) -> None:
    """Past its deadline: an outcome where there is none, and no second one where there is."""
    async with bench(ledger, bus_server=bus, only=WELL) as scene:
        request = await scene.admit()
        accepted = decode_as(request.accepted, RequestAccepted)
        if is_known:
            await scene.dispatch(request)
        past = msgspec.structs.replace(accepted, deadline_ms=time.time_ns() // 1_000_000 - 1)
        await _forget(scene)
        late = msgspec.structs.replace(request, accepted=encode(past))
        for _ in range(2):
            record = await scene.hand_over(late)
            await asyncio.wait_for(record.finished.wait(), 10)

        (found,) = scene.log.outcomes
        assert is_known or (found.status, found.finished_at_ms) == ("expired", past.deadline_ms)


async def test_a_defect_does_not_end_what_another_process_runs(
    ledger: LedgerServer, bus: LedgerServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody else decides how it ends."""
    async with bench(ledger, bus_server=bus, only=WELL) as scene:
        request = await scene.admit()
        start = documents.Start(
            org=request.org, req=request.request_id, owner="dispatcher-1/x", lease_ms=10_000
        )
        claim = await scene.ledger.start(start)

        async def broken(*_: object) -> answers.StartAnswer:
            raise LedgerFault("a defect")

        monkeypatch.setattr(type(scene.ledger), "start", broken)
        record = await scene.hand_over(request)
        await asyncio.wait_for(record.finished.wait(), 5)

        assert isinstance(claim, answers.Fence)
        renewal = documents.Renew(
            org=request.org, req=request.request_id, fence=claim.fence, lease_ms=10_000
        )
        assert await scene.ledger.renew(renewal) == answers.Ok()
        assert (scene.log.outcomes, await scene.frames(request)) == ([], [])
        assert (await scene.balance(request, "nano_usd"))[1] == HELD_NANO_USD


def _expired(request: RequestAdmitted) -> Outgoing:
    """The outcome of somebody who did not know that it ran."""
    accepted = decode_as(request.accepted, RequestAccepted)
    job = AdmittedRequest(request, accepted, DISPATCHED_AT)
    end = Result("expired", ErrorCode.DEADLINE_EXCEEDED)
    return outcome_record(outcome(job, [], end, 0, accepted.deadline_ms), "limiter_worker")


async def test_an_outcome_that_stands_in_the_log_is_only_corrected(
    ledger: LedgerServer, bus: LedgerServer
) -> None:
    """The ledger lost the request while it ran, and the log has an end of it without any attempt."""
    stream = Stream()
    async with bench(ledger, bus_server=bus, only=stream.answer) as scene:
        request, record = await _under_way(scene, stream)
        scene.log.records.append(_expired(request))
        await _forget(scene)
        row = documents.OutcomeRow(offset=0, req=request.request_id, deadline_ms=2**50, at_ms=0)
        await scene.ledger.book(documents.Book(org=request.org, partition=0, rows=(row,)))
        await asyncio.wait_for(record.finished.wait(), 10)

        assert [o.status for o in scene.log.outcomes] == ["expired"]
        assert [c.delta.cost_nano_usd for c in scene.log.corrections] == [COST_NANO_USD]
        (told,) = (
            f.content for f in await scene.frames(request) if isinstance(f.content, Terminal)
        )
        assert told.error_code == ErrorCode.UPSTREAM_INTERRUPTED
