"""Batches whose processes are killed, replaced, cancelled or late: each line runs once and is told once."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from ingress.batches import pace as batch_pace
from ingress.batches import requests as batch_requests
from ingress.batches import run as batch_run
from ingress.batches.batch import parts_prefix
from ingress.batches.figures import BatchFigures
from ingress.batches.pace import Pace
from ingress.batches.run import BatchRun
from ingress.batches.runner import BatchRunner
from ingress.files.stock import FilesAway
from schemas.errors import ErrorCode
from schemas.failures import Transient
from schemas.frames import Terminal, Usage
from schemas.readiness import DEGRADED, OK
from tests.support.batches import (
    DONE,
    batch_gateway,
    batch_store,
    begin_batch,
    input_line,
    kill_when,
    own_batch,
    results_of,
    sdk_client,
)
from tests.support.configuration import NOW_MS
from tests.support.gateway import Gateway
from tests.support.waiting import until

_LIMITED = Terminal(429, error_code="RATE_LIMIT_EXCEEDED")


class _Leases:
    """Leases of all processes of a test, in memory."""

    def __init__(self, held: dict[str, str], token: str) -> None:
        self.held, self.token = held, token

    async def take(self, batch: str) -> bool:
        return self.held.setdefault(batch, self.token) == self.token

    async def give_back(self, batch: str) -> None:
        if self.held.get(batch) == self.token:
            del self.held[batch]


def _runner(gateway: Gateway, held: dict[str, str], token: str = "one") -> BatchRunner:
    """One process of batches."""
    starter, clock = gateway.public.starter, gateway.gatekeeper.clock
    leases: Any = _Leases(held, token)
    figures = BatchFigures(gateway.metrics, clock)
    return BatchRunner(batch_store(gateway), leases, starter, clock, 4, Pace(1e9), figures)


def _move(folder: Path, to: Path) -> None:
    """What was mounted is mounted elsewhere."""
    folder.rename(to)


@pytest.fixture(autouse=True)
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is looked at by the second is looked at at once."""
    monkeypatch.setattr(batch_run, "_LOOK_S", 0.01)
    monkeypatch.setattr(batch_requests, "_PAUSE_S", (0.01, 0.02))


async def test_a_line_that_was_refused_for_nothing_is_tried_again(tmp_path: Path) -> None:
    """Nobody waits for it: a rate limit, an overload or a missing backend passes."""
    refusals = [
        Terminal(429, error_code="RATE_LIMIT_EXCEEDED"),
        Terminal(503, error_code="no_backend_available"),
        Terminal(503, error_code="server_is_overloaded"),
    ]
    gateway = batch_gateway(tmp_path, lambda _: (refusals.pop() if refusals else DONE,))
    begun = await begin_batch(gateway, [input_line("patient")])

    await (await own_batch(gateway, begun.id)).run()

    batch = await sdk_client(gateway).batches.retrieve(begun.id)
    assert batch.status == "completed"
    assert len(await results_of(gateway, batch.output_file_id)) == 1
    assert len(gateway.log.accepted) == 4


async def test_what_was_paid_for_is_not_run_again(tmp_path: Path) -> None:
    """A failure that used a backend is what becomes of its line."""
    paid = Terminal(503, error_code="no_backend_available", usage=Usage(5, 0, 1, estimated=True))
    gateway = batch_gateway(tmp_path, lambda _: (paid,))
    begun = await begin_batch(gateway, [input_line("paid")])

    await (await own_batch(gateway, begun.id)).run()

    assert len(gateway.log.accepted) == 1
    batch = await sdk_client(gateway).batches.retrieve(begun.id)
    assert len(await results_of(gateway, batch.error_file_id)) == 1


@pytest.mark.parametrize("seed", range(4))
async def test_whoever_takes_a_killed_batch_over_runs_each_line_once(
    tmp_path: Path, seed: int
) -> None:
    """Killed three times at different points: before and behind what it kept."""
    gateway = batch_gateway(tmp_path)
    begun = await begin_batch(gateway, [input_line(f"line-{number}") for number in range(40)])
    for kill in range(1, 4):
        run, at = await own_batch(gateway, begun.id), 9 * kill + seed
        await kill_when(run, lambda at=at: len(gateway.log.accepted) >= at)  # type: ignore[misc]

    await (await own_batch(gateway, begun.id)).run()

    batch = await sdk_client(gateway).batches.retrieve(begun.id)
    results = await results_of(gateway, batch.output_file_id)
    assert batch.status == "completed"
    assert Counter(line["custom_id"] for line in results) == {
        f"line-{number}": 1 for number in range(40)
    }
    assert len(gateway.log.accepted) == 40
    assert batch.request_counts is not None
    assert batch.request_counts.completed == 40


async def test_an_owner_that_was_thought_dead_writes_where_nobody_looks(tmp_path: Path) -> None:
    """Its states have an older fence, and its lines are those of the other."""
    gateway = batch_gateway(tmp_path)
    begun = await begin_batch(gateway, [input_line(f"line-{number}") for number in range(10)])
    dead = await own_batch(gateway, begun.id)

    told, _ = await asyncio.gather(
        dead.run(), (await own_batch(gateway, begun.id)).run(), return_exceptions=True
    )
    await batch_store(gateway).tell(dead.batch.to("in_progress", 1), dead.fence)

    batch = await sdk_client(gateway).batches.retrieve(begun.id)
    results = await results_of(gateway, batch.output_file_id)
    assert isinstance(told, Transient)
    assert batch.status == "completed"
    assert len({line["custom_id"] for line in results}) == len(results) == 10
    assert len(gateway.log.accepted) == 10


async def test_a_batch_is_run_by_one_process(tmp_path: Path) -> None:
    """Who has no lease does nothing; who dies leaves it to another."""
    gateway = batch_gateway(tmp_path, lambda _: ())
    begun = await begin_batch(gateway, [input_line("slow")])
    held: dict[str, str] = {}
    first, second = (_runner(gateway, held, token) for token in ("first", "second"))
    await first.look()
    await second.look()
    assert (len(first.running), len(second.running)) == (1, 0)
    await until(lambda: len(gateway.log.accepted) == 1)
    for task in first.running.values():
        task.cancel()
    await asyncio.gather(*first.running.values(), return_exceptions=True)
    assert held == {}

    (accepted,) = gateway.log.accepted
    gateway.log.worker = lambda _: (DONE,)
    await second.look()
    gateway.log.work(accepted)
    await asyncio.gather(*second.running.values())

    batch = await sdk_client(gateway).batches.retrieve(begun.id)
    assert (batch.status, len(gateway.log.accepted), held) == ("completed", 1, {})


async def test_a_cancelled_batch_ends_with_what_it_has(tmp_path: Path) -> None:
    """Lines under way are cancelled, others never begun."""
    gateway = batch_gateway(tmp_path, lambda each: (DONE,) if b"fine" in each.payload else ())
    begun = await begin_batch(
        gateway, [input_line("fine"), *(input_line(f"slow-{at}") for at in range(20))]
    )
    run = await own_batch(gateway, begun.id)
    running = asyncio.create_task(run.run())
    await until(lambda: len(gateway.log.accepted) == 5)

    told = await sdk_client(gateway).batches.cancel(begun.id)
    await until(lambda: run.batch.status == "cancelling")
    cancelled = Terminal(409, error_code="request_cancelled")
    gateway.log.worker = lambda _: (cancelled,)
    for accepted in gateway.log.accepted[1:]:
        gateway.log.work(accepted)
    await running

    batch = await sdk_client(gateway).batches.retrieve(begun.id)
    assert (told.status, batch.status) == ("cancelling", "cancelled")
    assert len(await results_of(gateway, batch.output_file_id)) == 1
    assert len(gateway.log.accepted) < 21
    assert (await sdk_client(gateway).batches.cancel(begun.id)).status == "cancelled"


async def test_lines_that_have_no_time_left_say_so(tmp_path: Path) -> None:
    """The batch is expired, and what ended before stands in its results."""
    gateway = batch_gateway(tmp_path)
    begun = await begin_batch(gateway, [input_line(f"line-{number}") for number in range(10)])
    run = await own_batch(gateway, begun.id, lines_max=1)
    await kill_when(run, lambda: len(gateway.log.accepted) >= 4)

    clock = gateway.gatekeeper.clock
    clock.now_ms = lambda: NOW_MS + 86_400_000  # type: ignore[method-assign]
    await (await own_batch(gateway, begun.id)).run()

    batch = await sdk_client(gateway).batches.retrieve(begun.id)
    results = await results_of(gateway, batch.output_file_id)
    errors = await results_of(gateway, batch.error_file_id)
    assert batch.status == "expired"
    assert batch.expired_at == NOW_MS // 1_000 + 86_400
    assert len(results) + len(errors) == 10
    assert {line["error"]["code"] for line in errors} == {"batch_expired"}
    assert {line["response"] for line in errors} == {None}
    assert len(gateway.log.accepted) <= 5


async def test_a_batch_of_a_key_that_was_revoked_runs_nothing_more(tmp_path: Path) -> None:
    """Its lines end as its requests would."""
    gateway = batch_gateway(tmp_path)
    begun = await begin_batch(gateway, [input_line("late")])
    known = gateway.config.snapshot
    object.__setattr__(
        known, "keys", {key: row for key, row in known.keys.items() if key != "key_a"}
    )

    await (await own_batch(gateway, begun.id)).run()

    (state,) = [await batch_store(gateway).find("acme", begun.id)]
    assert state is not None
    assert (state[0].failed, state[0].completed) == (1, 0)
    assert gateway.log.records == []


async def test_a_defect_in_a_line_costs_that_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends as a request with a defect does."""
    gateway = batch_gateway(tmp_path)
    begun = await begin_batch(gateway, [input_line("a"), input_line("b")])
    validated = batch_requests.LineRunner._validated

    def odd(self: Any, number: int, again: int, line: Any) -> Any:
        if number == 1:
            raise RuntimeError("a defect")
        return validated(self, number, again, line)

    monkeypatch.setattr(batch_requests.LineRunner, "_validated", odd)
    await (await own_batch(gateway, begun.id)).run()

    batch = await sdk_client(gateway).batches.retrieve(begun.id)
    (error,) = await results_of(gateway, batch.error_file_id)
    assert (error["custom_id"], error["response"]["status_code"]) == ("a", 500)
    assert len(await results_of(gateway, batch.output_file_id)) == 1


async def test_a_batch_does_not_end_before_its_lines(tmp_path: Path) -> None:
    """A process that gives up what waits leaves them to the next one."""
    gateway = batch_gateway(tmp_path, lambda _: ())
    begun = await begin_batch(gateway, [input_line("a")])
    running = asyncio.create_task((await own_batch(gateway, begun.id)).run())
    await until(lambda: len(gateway.pending) == 1)
    gateway.pending.abandon()

    with pytest.raises(batch_requests.LineStopped):
        await running

    batch = await sdk_client(gateway).batches.retrieve(begun.id)
    assert (batch.status, batch.output_file_id) == ("in_progress", None)


async def test_results_are_never_written_without_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a part is gone, its lines are asked for again: they have their answers still."""
    gateway = batch_gateway(tmp_path)
    begun = await begin_batch(gateway, [input_line(f"line-{number}") for number in range(4)])
    store, run = batch_store(gateway), await own_batch(gateway, begun.id)
    finish = BatchRun._finish

    async def after_a_loss(self: BatchRun) -> None:
        for path in await store.files.paths(parts_prefix("acme", begun.id)):
            await store.files.remove(path)
        await finish(self)

    monkeypatch.setattr(BatchRun, "_finish", after_a_loss)
    with pytest.raises(batch_requests.LineStopped):
        await run.run()
    monkeypatch.setattr(BatchRun, "_finish", finish)
    await (await own_batch(gateway, begun.id)).run()

    batch = await sdk_client(gateway).batches.retrieve(begun.id)
    assert len(await results_of(gateway, batch.output_file_id)) == 4
    assert len(gateway.log.accepted) == 4


async def test_lines_begin_at_a_pace() -> None:
    """However fast they are answered."""
    pace, loop = Pace(100), asyncio.get_running_loop()
    begun_s = loop.time()

    await asyncio.gather(*(pace.turn() for _ in range(11)))

    assert loop.time() - begun_s >= 0.1


async def test_a_process_that_ends_gives_its_leases_back_at_once(tmp_path: Path) -> None:
    """Another need not wait until they lapse."""
    gateway = batch_gateway(tmp_path, lambda _: ())
    await begin_batch(gateway, [input_line("slow")])
    held: dict[str, str] = {}
    running = asyncio.create_task(_runner(gateway, held).run())
    await until(lambda: len(gateway.log.accepted) == 1)
    assert len(held) == 1

    running.cancel()
    await asyncio.wait({running})

    assert held == {}


async def test_files_that_are_away_are_told_and_looked_for_again(tmp_path: Path) -> None:
    """Nothing ends of it."""
    gateway = batch_gateway(tmp_path)
    runner = _runner(gateway, {})
    elsewhere = tmp_path.with_name("elsewhere")
    _move(tmp_path, elsewhere)

    with pytest.raises(FilesAway):
        await runner.look()
    told = runner.files
    _move(elsewhere, tmp_path)
    await runner.look()

    assert told.startswith(DEGRADED)
    assert runner.files == OK


async def test_no_line_begins_while_the_gateway_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A full ledger or disk closes it to clients, too."""
    monkeypatch.setattr(batch_pace, "_LOOK_S", 0.01)
    closed = [True]
    turn = asyncio.create_task(Pace(1e9, lambda: closed[0]).turn())

    await asyncio.sleep(0.05)
    waited = not turn.done()
    closed[0] = False
    await asyncio.wait_for(turn, 1.0)

    assert waited


@pytest.mark.parametrize(("ends", "told"), [((_LIMITED,), 1), ((), 0)])
async def test_a_batch_that_is_held_up_says_why_and_one_that_hangs_does_not(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    ends: tuple[Terminal, ...],
    told: int,
) -> None:
    """Both have a line under way for long; only of the first something refused it."""
    monkeypatch.setattr(batch_requests, "_PAUSE_S", (10.0, 10.0))
    caplog.set_level(logging.INFO)
    gateway = batch_gateway(tmp_path, lambda _: ends)
    begun = await begin_batch(gateway, [input_line("stuck")])
    run = await own_batch(gateway, begun.id)
    run.figures.expose()
    running = asyncio.create_task(run.run())
    await until(lambda: len(gateway.log.accepted) == 1)
    await asyncio.sleep(0.1)
    page = gateway.metrics.page().decode()
    running.cancel()
    await asyncio.wait({running})

    waits = f'tallygate_batch_lines{{error_type="{ErrorCode.RATE_LIMIT_EXCEEDED}"}} 1.0'
    assert (waits in page) == bool(told)
    assert f'tallygate_batch_lines{{error_type=""}} {1.0 - told}' in page
    events = [each for each in caplog.records if "batch_lines_wait" in each.getMessage()]
    assert len(events) == told
