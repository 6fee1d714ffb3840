"""A defect at any step ends the one request that meets it, at once and with an outcome; its neighbours
do not notice."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, cast

import msgspec
import pytest

from dispatcher.attempts.attempt import AttemptRun
from dispatcher.settlement import closing as closing_module
from schemas.codec import encode
from schemas.events import RecordRef, RequestAdmitted
from schemas.failures import Poison
from schemas.frames import Terminal
from schemas.ledger.errors import LedgerFault
from schemas.outgoing import Outgoing
from schemas.runtime.kafka.consume.records import Record
from schemas.runtime.process.event_log import EventLog
from schemas.topics import dead_letters_of
from tests.integration.dispatch_bench import HELD_NANO_USD, Bench, Handed, bench
from tests.integration.well_answered import COST_NANO_USD, WELL
from tests.support.events import DISPATCHED_AT
from tests.support.harness.ledger_server import LedgerServer

_CULPRIT = "018bcfe5-6800-7000-8000-000000000bad"
_NEIGHBOURS = [f"018bcfe5-6800-7000-8000-00000000000{number}" for number in range(5)]

Fault = Callable[[Bench, pytest.MonkeyPatch], None]


def _breaks(
    monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, culprit: Callable[..., bool], error: Any
) -> None:
    """The method raises for the culprit, and works for everybody else."""
    real = getattr(owner, name)

    async def broken(*args: Any, **more: Any) -> Any:
        if culprit(*args, **more):
            raise error
        return await real(*args, **more)

    monkeypatch.setattr(owner, name, broken)


def _claim(scene: Bench, patch: pytest.MonkeyPatch) -> None:
    ledger = scene.dispatching.claiming.ledger
    _breaks(patch, type(ledger), "start", lambda _, c: c.req == _CULPRIT, LedgerFault("a defect"))


def _queue(scene: Bench, patch: pytest.MonkeyPatch) -> None:
    slots = type(scene.dispatching.failover.slots)
    _breaks(
        patch, slots, "take", lambda _, w: w.request.request_id == _CULPRIT, KeyError("a defect")
    )


def _attempt(scene: Bench, patch: pytest.MonkeyPatch) -> None:
    _breaks(
        patch,
        AttemptRun,
        "run",
        lambda run: run.job.request.request_id == _CULPRIT,
        UnicodeDecodeError("utf-8", b"\xe9", 0, 1, "a defect"),
    )


def _finish(scene: Bench, patch: pytest.MonkeyPatch) -> None:
    ledger = type(scene.dispatching.closing.settling.ledger)
    _breaks(patch, ledger, "finish", lambda _, d, b: d.req == _CULPRIT, LedgerFault("a defect"))


def _answer(scene: Bench, patch: pytest.MonkeyPatch) -> None:
    def is_culprit(_: object, frame: Any, *__: object, **___: object) -> bool:
        return frame.request_id == _CULPRIT and bool(frame.content.body)

    _breaks(patch, type(scene.bus), "send", is_culprit, TypeError("a defect"))


async def _all(scene: Bench) -> dict[str, tuple[RequestAdmitted, float]]:
    """All requests at once; each with the seconds until its record was finished."""

    async def one(request_id: str) -> tuple[RequestAdmitted, float]:
        request = await scene.admit(request_id=request_id, org=f"org{request_id[-3:]}")
        started_s = asyncio.get_running_loop().time()
        record = await scene.hand_over(request)
        await asyncio.wait_for(record.finished.wait(), 5)
        return request, asyncio.get_running_loop().time() - started_s

    names = [_CULPRIT, *_NEIGHBOURS]
    return dict(zip(names, await asyncio.gather(*map(one, names)), strict=True))


@pytest.mark.parametrize(
    ("fault", "code", "settled"),
    [
        (_claim, "internal_error", 0),
        (_queue, "internal_error", 0),
        (_attempt, "internal_error", HELD_NANO_USD),
        (_answer, None, COST_NANO_USD),
    ],
    ids=["claim", "queue", "attempt", "answer"],
)
async def test_a_defect_ends_one_request_and_returns_its_hold(
    server: LedgerServer,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    fault: Fault,
    code: str | None,
    settled: int,
) -> None:
    """Within a second: one outcome, one end for its client, its id in the log; neighbours complete."""
    caplog.set_level(logging.ERROR)
    async with bench(server, only=WELL) as scene:
        fault(scene, monkeypatch)
        ended = await _all(scene)
        outcomes = {outcome.request_id: outcome for outcome in scene.log.outcomes}
        request, took_s = ended[_CULPRIT]

        assert took_s < 1.0
        assert len(scene.log.outcomes) == 1 + len(_NEIGHBOURS)
        assert outcomes[_CULPRIT].error_code == code
        assert await scene.balance(request, "nano_usd") == (settled, 0)
        assert isinstance((await scene.frames(request))[-1].content, Terminal)
        assert _CULPRIT in caplog.text
        assert {outcomes[name].status for name in _NEIGHBOURS} == {"completed"}
        for name in _NEIGHBOURS:
            assert await scene.balance(ended[name][0], "nano_usd") == (COST_NANO_USD, 0)


async def test_what_the_ledger_refuses_to_close_is_in_the_log_and_set_aside(
    server: LedgerServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client has its answer, the outcome its real cost, an operator the record."""
    async with bench(server, only=WELL) as scene:
        _finish(scene, monkeypatch)
        request, _ = (await _all(scene))[_CULPRIT]
        (outcome,) = [o for o in scene.log.outcomes if o.request_id == _CULPRIT]
        letters = [r for r in scene.log.records if r.topic == dead_letters_of(DISPATCHED_AT.topic)]

        assert (outcome.status, outcome.attempts[0].cost_nano_usd) == ("completed", COST_NANO_USD)
        assert [letter.value for letter in letters] == [encode(request)]
        (frame,) = await scene.frames(request)
        assert isinstance(frame.content, Terminal)
        assert frame.content.http_status == 200


async def test_a_record_that_cannot_be_read_is_set_aside_alone(server: LedgerServer) -> None:
    """Its neighbours in the same batch run."""
    async with bench(server, only=WELL) as scene:
        request = await scene.admit()
        broken = await scene.hand_over(request)
        broken.value = b"\x00\x00"
        whole = await scene.hand_over(request)
        await asyncio.wait_for(broken.finished.wait(), 5)
        await asyncio.wait_for(whole.finished.wait(), 5)

        assert len(scene.log.outcomes) == 1
        assert any(r.topic == dead_letters_of(DISPATCHED_AT.topic) for r in scene.log.records)


async def test_a_record_that_cannot_be_read_ends_the_request_that_its_header_names(
    server: LedgerServer,
) -> None:
    """At once: its client is told, its hold returns, and the record is kept."""
    async with bench(server, only=WELL) as scene:
        request = await scene.admit(org="a|b*c")
        scene.requests.records[request.accepted_ref.offset] = request.accepted
        broken = await _broken(scene, request)
        await asyncio.wait_for(broken.finished.wait(), 5)

        (outcome,) = scene.log.outcomes
        assert (outcome.request_id, outcome.status) == (request.request_id, "failed")
        assert outcome.parents[0] == request.accepted_ref
        assert await scene.balance(request, "nano_usd") == (0, 0)
        (frame,) = await scene.frames(request)
        assert isinstance(frame.content, Terminal)
        assert frame.content.http_status == 500
        letters = [r for r in scene.log.records if r.topic == dead_letters_of(DISPATCHED_AT.topic)]
        assert [letter.value for letter in letters] == [b"garbage"]


async def test_a_record_that_cannot_be_read_ends_nothing_that_runs(server: LedgerServer) -> None:
    """Another copy was readable."""
    async with bench(server, only=WELL) as scene:
        request = await scene.admit()
        scene.requests.records[request.accepted_ref.offset] = request.accepted
        outcome = await scene.dispatch(request)
        broken = await _broken(scene, request)
        await asyncio.wait_for(broken.finished.wait(), 5)

        assert outcome.status == "completed"
        assert len(scene.log.outcomes) == 1


@pytest.mark.parametrize(
    "named", [b"", b"*", b"nobody", b"\xff", b"018bcfe5-6800-7000-8000-0000000000*"]
)
async def test_a_record_that_names_nobody_is_only_kept(server: LedgerServer, named: bytes) -> None:
    """Anybody could have written the header."""
    async with bench(server, only=WELL) as scene:
        request = await scene.admit()
        broken = Handed(b"garbage", headers={"request_id": named})
        await scene.dispatching.handle([cast("Record", broken)])
        await asyncio.wait_for(broken.finished.wait(), 5)

        assert scene.log.outcomes == []
        assert await scene.balance(request, "nano_usd") == (0, HELD_NANO_USD)


@pytest.mark.parametrize("inside", [False, True], ids=["itself", "the request in it"])
async def test_an_admission_of_a_newer_version_waits_for_it(
    server: LedgerServer, *, inside: bool
) -> None:
    """No outcome, no letter, and its hold stays."""
    async with bench(server, only=WELL) as scene:
        request = await scene.admit()
        newer = b"\x00\x00\x00\x03\xe7newer"
        value = encode(msgspec.structs.replace(request, accepted=newer)) if inside else newer
        record = Handed(value)
        await scene.dispatching.handle([cast("Record", record)])
        await scene.dispatching.wait_until_idle(5)

        assert (record.held or "").startswith("unknown_schema: id 999")
        assert not record.finished.is_set()
        assert scene.log.records == []
        assert await scene.balance(request, "nano_usd") == (0, HELD_NANO_USD)


async def test_an_unknown_operation_ends_its_own_request_only(server: LedgerServer) -> None:
    """503 at once: a newer ingress may know it. Its hold returns, and its neighbour runs."""
    async with bench(server, only=WELL) as scene:
        request = await scene.admit(route="audio.dreams")
        outcome = await scene.dispatch(request)
        neighbour = await scene.admit(request_id=_NEIGHBOURS[0])
        await asyncio.wait_for((await scene.hand_over(neighbour)).finished.wait(), 5)

        assert (outcome.status, outcome.http_status, outcome.attempts) == ("failed", 503, [])
        (frame,) = await scene.frames(request)
        assert isinstance(frame.content, Terminal)
        assert [each.status for each in scene.log.outcomes] == ["failed", "completed"]
        assert await scene.balance(request, "nano_usd") == (COST_NANO_USD, 0)


async def _broken(scene: Bench, request: RequestAdmitted) -> Handed:
    """A record of the request that nobody can read."""
    record = Handed(b"garbage", headers={"request_id": request.request_id.encode()})
    await scene.dispatching.handle([cast("Record", record)])
    return record


async def test_an_outcome_that_no_broker_takes_loses_its_result_and_not_itself(
    server: LedgerServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same end and the same money, without the answer."""
    async with bench(server, only=WELL) as scene:
        real = scene.log.send

        def send(record: Outgoing) -> asyncio.Future[RecordRef]:
            if len(record.value or b"") <= 600:
                return real(record)
            refused: asyncio.Future[RecordRef] = asyncio.get_running_loop().create_future()
            refused.set_exception(Poison("too large"))
            return refused

        monkeypatch.setattr(scene.log, "send", send)
        monkeypatch.setattr(closing_module, "_LOG", EventLog("quiet"))
        request = await scene.admit(keep_result=True, org="o" * 200)
        outcome = await scene.dispatch(request)

        assert (outcome.status, outcome.result) == ("completed", None)
        assert outcome.attempts[0].cost_nano_usd == COST_NANO_USD
