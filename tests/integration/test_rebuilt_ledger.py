"""A ledger in a real store is emptied while calls run, and made again from what the log says: nothing is spent above
the budget by the backends' own logs, and the books say what they say.

The log's part of the rebuild is the test's own; its calls are the real ones.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any, cast

import msgspec
from aiohttp import web

from accounting.books import Books
from accounting.earlier import AskedRow, Earlier, first_among
from accounting.rebuild.attempts import attempt_of
from accounting.tables_log import TablesLog
from dispatcher.claims.claiming import Claiming
from dispatcher.claims.leases import Leases
from dispatcher.handler import Dispatching
from schemas.codec import encode
from schemas.events import RequestAdmitted
from schemas.ledger import answers, calls, documents, keys, rebuild_calls
from schemas.ledger.documents import Restore
from schemas.outgoing import Outgoing
from schemas.runtime.kafka.consume.records import Record
from schemas.runtime.process.clock import Clock
from schemas.runtime.process.telemetry import Metrics
from schemas.times import FULL
from schemas.topics import OUTCOMES
from tests.integration.dispatch_bench import HELD_NANO_USD, Bench, Handed, bench
from tests.support.events import NOW_MS
from tests.support.harness.ledger_server import LedgerServer
from tests.support.one_shard import META_KEY, SHARD
from tests.support.thresholds import watching_nothing

_USAGE = {"prompt_tokens": 1_000, "completion_tokens": 500}
"""All that is held: a backend's call costs as much as it may."""
_BUILDING = "2:test"
_TWO_LEASES_MS = 20_000


@dataclass
class Backend:
    """Answers when it is told, and keeps a log of what it was paid."""

    opened: asyncio.Event = field(default_factory=asyncio.Event)
    asked: int = 0
    spent_nano_usd: int = 0
    share: int = 1
    """Which part of what is held a call uses."""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.asked += 1
        await self.opened.wait()
        self.spent_nano_usd += HELD_NANO_USD // self.share
        usage = {name: count // self.share for name, count in _USAGE.items()}
        body = {"choices": [{"message": {"content": "hi"}}], "usage": usage}
        return web.Response(body=json.dumps(body).encode(), content_type="application/json")

    async def until_asked(self, count: int) -> None:
        async with asyncio.timeout(5):
            while self.asked < count:  # noqa: ASYNC110  # a backend has no event for each call
                await asyncio.sleep(0.01)


async def _breaks_off(request: web.Request) -> web.StreamResponse:
    """Takes the request and says nothing: it read the prompt, and what that costs is estimated."""
    assert request.transport is not None
    await request.read()
    request.transport.abort()
    return web.Response()


async def _run(scene: Bench, call: Any) -> Any:
    return call.decode(await scene.ledger._store.call(*call.command))


async def _loses_and_rebuilds(scene: Bench, *requests: RequestAdmitted) -> None:
    """The store is empty, and then has what the log says: these were admitted, and nothing has ended."""
    await scene.ledger._store.call("FLUSHALL")
    assert await _run(scene, rebuild_calls.begin(SHARD, 2, _BUILDING)) == answers.Ok()
    open_ones = Restore(building=_BUILDING, attempts=tuple(map(attempt_of, requests)))
    assert await _run(scene, calls.restore(SHARD, open_ones)) == answers.Ok()
    assert await _run(scene, rebuild_calls.open_(SHARD, _BUILDING, -1, 0, b"")) == answers.Ok()


async def _two_leases_pass(scene: Bench) -> None:
    """Since the rebuild; without waiting for them."""
    ready_ms = time.time_ns() // 1_000_000 - _TWO_LEASES_MS
    await scene.ledger._store.call("HSET", META_KEY, "ready_ms", str(ready_ms))


async def _racers(scene: Bench, like: RequestAdmitted, name: str, count: int = 50) -> int:
    """How many more of the like are admitted."""
    now_ms = time.time_ns() // 1_000_000
    balances = [msgspec.convert(msgspec.to_builtins(h), documents.Balance) for h in like.holds]
    documents_ = [
        documents.Admit(
            org=like.org,
            req=f"{name}-{n}",
            deadline_ms=now_ms + 60_000,
            accepted_ms=now_ms,
            balances=tuple(balances),
        )
        for n in range(count)
    ]
    verdicts = await scene.ledger.admit_many(documents_)
    assert not any(isinstance(verdict, answers.Refused) for verdict in verdicts), "a wrong 402"
    return sum(isinstance(verdict, answers.Admitted) for verdict in verdicts)


async def _ended(*records: Handed) -> None:
    for record in records:
        await asyncio.wait_for(record.finished.wait(), 10)


async def test_failed_over_attempts_spend_no_more_than_the_budget(server: LedgerServer) -> None:
    """Their first attempt is spent and nobody but they know it; the second runs. Whoever comes meanwhile waits."""
    second = Backend()
    async with bench(server, first=_breaks_off, second=second.answer) as scene:
        limit = 6 * HELD_NANO_USD
        admitted = [await scene.admit(limit, request_id=f"r{n}") for n in range(3)]
        records = [await scene.hand_over(request) for request in admitted]
        await second.until_asked(3)
        before = await scene.balance(admitted[0], "nano_usd")
        await _loses_and_rebuilds(scene, *admitted)
        at_once = await _racers(scene, admitted[0], "early")
        await scene.leases._renew()
        attached = await scene.balance(admitted[0], "nano_usd")
        afterwards = await _racers(scene, admitted[0], "late")
        second.opened.set()
        await _ended(*records)
        await scene.book()

        estimated = sum(outcome.attempts[0].cost_nano_usd or 0 for outcome in scene.log.outcomes)
        spent = second.spent_nano_usd + estimated
        room = (limit - before[0] - before[1]) // HELD_NANO_USD
        assert attached == before
        assert (at_once, afterwards) == (0, room)
        assert spent + afterwards * HELD_NANO_USD <= limit
        assert [len(outcome.attempts) for outcome in scene.log.outcomes] == [2, 2, 2]
        held = afterwards * HELD_NANO_USD
        assert await scene.balance(admitted[0], "nano_usd") == (spent, held)


def _other(scene: Bench) -> Dispatching:
    """Another dispatcher, with the same backends."""
    ours = scene.dispatching
    leases = Leases(scene.ledger, ours.leases.cap, "dispatcher-1")
    return replace(
        ours,
        claiming=Claiming(scene.ledger, ours.clock, "dispatcher-1"),
        leases=leases,
        failover=replace(ours.failover, leases=leases),
        _repeats={},
        _tasks=set(),
    )


async def test_a_zombie_and_its_successor_spend_no_more_than_the_budget(
    server: LedgerServer,
) -> None:
    """The one whose fence is the ledger's ends it; the other's real use is booked behind, and both fit."""
    backend = Backend()
    async with bench(server, only=backend.answer) as scene:
        limit = 3 * HELD_NANO_USD
        request = await scene.admit(limit)
        record = await scene.hand_over(request)
        await backend.until_asked(1)
        await _loses_and_rebuilds(scene, request)
        await _two_leases_pass(scene)
        fresh = Handed(encode(request))
        await _other(scene).handle([cast("Record", fresh)])
        await backend.until_asked(2)
        admitted = await _racers(scene, request, "racer")
        backend.opened.set()
        await _ended(record, fresh)
        await scene.book()

        assert admitted == 0
        assert backend.spent_nano_usd == 2 * HELD_NANO_USD <= limit
        assert len(scene.log.outcomes) == 1
        assert await scene.balance(request, "nano_usd") == (2 * HELD_NANO_USD, 0)


async def test_what_nobody_has_begun_is_charged_for_what_it_uses(server: LedgerServer) -> None:
    """Its dispatcher has it fresh: it need not wait for an owner that cannot be there."""
    backend = Backend()
    backend.opened.set()
    async with bench(server, only=backend.answer) as scene:
        request = await scene.admit(2 * HELD_NANO_USD)
        await _loses_and_rebuilds(scene, request)
        scene.dispatching.is_fresh = lambda _: True
        began_s = time.monotonic()
        outcome = await scene.dispatch(request)
        await scene.book()

        assert time.monotonic() - began_s < 5
        assert [(a.attempt, a.status) for a in outcome.attempts] == [(1, "succeeded")]
        assert await scene.balance(request, "nano_usd") == (backend.spent_nano_usd, 0)


async def test_an_end_while_its_shard_is_closed_is_settled_by_its_booking(
    server: LedgerServer,
) -> None:
    """Nobody waits for the rebuild, and what is booked is what the backend was paid."""
    backend = Backend()
    async with bench(server, only=backend.answer) as scene:
        request = await scene.admit(2 * HELD_NANO_USD)
        record = await scene.hand_over(request)
        await backend.until_asked(1)
        await scene.ledger._store.call("FLUSHALL")
        backend.opened.set()
        await _ended(record)
        await _loses_and_rebuilds(scene, request)
        held = await scene.balance(request, "nano_usd")
        await scene.book()

        assert [outcome.unsettled for outcome in scene.log.outcomes] == [True]
        assert held == (0, HELD_NANO_USD)
        assert await scene.balance(request, "nano_usd") == (backend.spent_nano_usd, 0)


@dataclass
class _Earlier:
    """Finds outcomes in the log of the scene."""

    scene: Bench

    async def first_of(self, partition: int, row: AskedRow) -> Earlier | None:
        return first_among(row, cast("Any", map(_consumed, range(100), self.scene.log.records)))


@dataclass
class _Accounting:
    """Takes what accounting produces; usage lines are no part of the scene's log."""

    scene: Bench

    async def deliver(self, records: Sequence[Outgoing], deadline_s: float) -> None:
        await self.scene.log.deliver([r for r in records if r.topic == OUTCOMES], deadline_s)


def _consumed(offset: int, record: Outgoing) -> SimpleNamespace:
    return SimpleNamespace(
        offset=offset, partition=0, value=record.value, headers=record.headers, timestamp=NOW_MS
    )


async def test_an_outcome_that_came_after_another_one_books_what_its_backend_was_paid(
    server: LedgerServer,
) -> None:
    """Its dispatcher stood still between the ledger's word that it was closed and its own; meanwhile another ran the
    request again. Once, however often it is booked: in balance and total, by the backend's own log."""
    backend = Backend(share=2)
    async with bench(server, only=backend.answer) as scene:
        request = await scene.admit(9 * HELD_NANO_USD)
        record = await scene.hand_over(request)
        await backend.until_asked(1)
        await scene.ledger._store.call("FLUSHALL")
        backend.opened.set()
        await _ended(record)
        late = scene.log.records.pop()
        await _loses_and_rebuilds(scene, request)
        await _two_leases_pass(scene)
        fresh = Handed(encode(request))
        await _other(scene).handle([cast("Record", fresh)])
        await _ended(fresh)
        scene.log.records.append(late)
        books = _books(scene)
        # The late one is delivered again, and so are its corrections.
        for offset in (0, 1, 2, 3, 1, 4, 5):
            await books.handle([_outcome_at(scene, offset)])
        (key,) = (hold.key for hold in request.holds if hold.unit == "nano_usd")
        total = await scene.ledger._store.call(
            "HGET", keys.of_org(SHARD, request.org, keys.totals_suffix(key)), "settled"
        )

        assert backend.spent_nano_usd == HELD_NANO_USD
        assert [outcome.unsettled for outcome in scene.log.outcomes] == [False, True]
        assert await scene.balance(request, "nano_usd") == (backend.spent_nano_usd, 0)
        assert int(total) == backend.spent_nano_usd


def _books(scene: Bench) -> Books:
    producer: Any = _Accounting(scene)
    return Books(
        ledger=scene.ledger,
        producer=producer,
        dead_letters=cast("Any", None),
        metrics=Metrics(),
        clock=Clock(),
        tables=TablesLog(producer),
        earlier=cast("Any", _Earlier(scene)),
        times=FULL.ledger,
        thresholds=watching_nothing(),
    )


def _outcome_at(scene: Bench, offset: int) -> Record:
    message = _consumed(offset, scene.log.records[offset])
    message.topic, message.key, message.timestamp = OUTCOMES, b"acme", NOW_MS
    return Record(message, 1, lambda _: None, lambda *_: None)
