"""Batches, over a folder, a log and a ledger in memory: asked for with OpenAI's own SDK, run, killed, cancelled and expired."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import httpx2
import openai
import pytest

from ingress.batches import requests as batch_requests
from ingress.batches import run as batch_run
from ingress.batches.batch import Batch, parts_prefix
from ingress.batches.pace import Pace
from ingress.batches.run import BatchRun
from ingress.batches.runner import BatchRunner
from ingress.batches.store import BatchStore
from schemas.events import RequestAccepted
from schemas.failures import Transient
from schemas.frames import Terminal, Usage
from schemas.topics import BACKGROUND
from tests.support.configuration import NOW_MS, SECRET, UNKNOWN_SECRET
from tests.support.gateway import Gateway
from tests.support.waiting import until

_URL: Final = "/v1/chat/completions"
_DONE: Final = Terminal(200, body=b'{\n "id": "c"\n}', usage=Usage(5, 7, 12_000, estimated=False))
Worker = Callable[[RequestAccepted], Sequence[Terminal]]


class _Leases:
    """Leases of all processes of a test, in memory."""

    def __init__(self, held: dict[str, str], token: str) -> None:
        self.held, self.token = held, token

    async def take(self, batch: str) -> bool:
        return self.held.setdefault(batch, self.token) == self.token

    async def give_back(self, batch: str) -> None:
        if self.held.get(batch) == self.token:
            del self.held[batch]


@pytest.fixture(autouse=True)
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is looked at by the second is looked at at once."""
    monkeypatch.setattr(batch_run, "_LOOK_S", 0.01)
    monkeypatch.setattr(batch_requests, "_PAUSE_S", (0.01, 0.02))


def _gateway(folder: Path, worker: Worker = lambda _: (_DONE,)) -> Gateway:
    gateway = Gateway(files_url=f"file://{folder}")
    gateway.log.worker = worker
    return gateway


def _client(gateway: Gateway) -> openai.AsyncOpenAI:
    http = openai.DefaultAsyncHttpxClient(transport=httpx2.ASGITransport(gateway.app))
    return openai.AsyncOpenAI(
        base_url="http://gateway/v1", api_key=SECRET, http_client=http, max_retries=0
    )


def _line(custom_id: str, /, **more: Any) -> dict[str, Any]:
    body = {"model": "echo", "messages": [{"role": "user", "content": custom_id}]}
    return {"custom_id": custom_id, "method": "POST", "url": _URL, "body": body, **more}


async def _begin(gateway: Gateway, lines: Sequence[dict[str, Any] | str], url: str = _URL) -> Any:
    texts = (line if isinstance(line, str) else json.dumps(line) for line in lines)
    client, content = _client(gateway), "\n".join(texts).encode()
    file = await client.files.create(file=("in.jsonl", content), purpose="batch")
    return await client.batches.create(
        input_file_id=file.id,
        endpoint=url,  # type: ignore[arg-type]
        completion_window="24h",
        metadata={"by": "a test"},
    )


def _store(gateway: Gateway) -> BatchStore:
    shelf = gateway.public.files
    assert shelf is not None
    return BatchStore(shelf.store)


async def _own(gateway: Gateway, batch: str, lines_max: int = 4) -> BatchRun:
    """The run of whoever owns the batch from now on."""
    store = _store(gateway)
    owned = await store.own("acme", batch)
    assert owned is not None
    public = gateway.public
    return BatchRun(*owned, store, public.starter, public.gatekeeper.clock, lines_max, Pace(1e9))


async def _results(gateway: Gateway, name: str | None) -> list[dict[str, Any]]:
    if name is None:
        return []
    content = (await _client(gateway).files.content(name)).content
    return [json.loads(line) for line in content.splitlines()]


async def _kill(run: BatchRun, when: Callable[[], bool]) -> None:
    """Run until then, and not a moment longer."""
    task = asyncio.create_task(run.run())
    async with asyncio.timeout(5):
        while not when():  # noqa: ASYNC110  # at whatever step it is just then
            await asyncio.sleep(0)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def test_a_batch_runs_and_its_results_are_read(tmp_path: Path) -> None:
    """Every line once, under its own name, in the background, and in no list of jobs."""
    gateway = _gateway(tmp_path)
    begun = await _begin(gateway, [_line(f"line-{number}") for number in range(20)])
    assert (begun.status, begun.object, begun.completion_window) == ("validating", "batch", "24h")
    assert begun.expires_at == begun.created_at + 86_400

    await (await _own(gateway, begun.id)).run()

    client = _client(gateway)
    batch = await client.batches.retrieve(begun.id)
    results = await _results(gateway, batch.output_file_id)
    assert (batch.status, batch.error_file_id, batch.errors) == ("completed", None, None)
    assert batch.metadata == {"by": "a test"}
    assert batch.request_counts is not None
    assert batch.request_counts.to_dict() == {"total": 20, "completed": 20, "failed": 0}
    assert batch.usage is not None
    assert (batch.usage.input_tokens, batch.usage.total_tokens) == (100, 240)
    assert batch.in_progress_at == batch.finalizing_at == batch.completed_at == NOW_MS // 1_000
    assert {line["custom_id"] for line in results} == {f"line-{number}" for number in range(20)}
    assert len({line["id"] for line in results}) == len(results) == 20
    requests = {each.request_id for each in gateway.log.accepted}
    for line in results:
        assert line["id"].startswith("batch_req_")
        assert line["error"] is None
        assert line["response"]["request_id"] in requests
        assert (line["response"]["status_code"], line["response"]["body"]) == (200, {"id": "c"})
    assert {record.topic for record in gateway.log.records} == {BACKGROUND}
    assert {(each.background, each.job) for each in gateway.log.accepted} == {(True, None)}
    assert (await gateway.client.get("/v1/jobs")).json()["data"] == []
    file = await client.files.retrieve(batch.output_file_id or "")
    assert (file.purpose, file.filename) == ("batch_output", f"{begun.id}_output.jsonl")
    assert await _store(gateway).open() == []
    assert await _store(gateway).files.paths(parts_prefix("acme", begun.id)) == []


@pytest.mark.parametrize(
    ("lines", "code", "line"),
    [
        (["{"], "invalid_json_line", 1),
        (["[1]"], "invalid_json_line", 1),
        ([_line("a"), _line("a")], "duplicate_custom_id", 2),
        ([_line("a"), "", _line("")], "missing_required_parameter", 3),
        ([_line("a", custom_id=7)], "invalid_custom_id", 1),
        ([_line("x" * 513)], "invalid_custom_id", 1),
        ([_line("a", method="GET")], "invalid_method", 1),
        ([_line("a", url="/v1/embeddings")], "mismatched_endpoint", 1),
        ([_line("a", url="/v1/jobs")], "invalid_url", 1),
        ([_line("a", body=None)], "missing_required_parameter", 1),
        ([_line("a", body={"stream": True})], "invalid_request", 1),
        ([], "empty_file", None),
    ],
)
async def test_an_input_with_a_mistake_runs_nothing(
    tmp_path: Path, lines: list[Any], code: str, line: int | None
) -> None:
    """And the mistake is told with its line."""
    gateway = _gateway(tmp_path)
    begun = await _begin(gateway, lines or [" "])

    await (await _own(gateway, begun.id)).run()

    batch = await _client(gateway).batches.retrieve(begun.id)
    assert (batch.status, batch.failed_at) == ("failed", NOW_MS // 1_000)
    assert batch.errors is not None
    assert [(each.code, each.line) for each in batch.errors.data or []] == [(code, line)]
    assert gateway.log.records == []
    assert await _store(gateway).open() == []


async def test_too_many_lines_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before any is run."""
    monkeypatch.setattr(batch_run, "LINES_MAX", 3)
    gateway = _gateway(tmp_path)
    begun = await _begin(gateway, [_line(str(number)) for number in range(4)])

    await (await _own(gateway, begun.id)).run()

    batch = await _client(gateway).batches.retrieve(begun.id)
    assert batch.errors is not None
    assert [each.code for each in batch.errors.data or []] == ["too_many_tasks"]


async def test_lines_that_fail_stand_in_the_file_of_errors(tmp_path: Path) -> None:
    """With the status and body that a client would have had; others go on."""
    gateway = _gateway(tmp_path)
    no_model = _line("no-model")
    no_model["body"]["model"] = "nobody"

    def worker(accepted: RequestAccepted) -> Sequence[Terminal]:
        if b"refused" in accepted.payload:
            return (Terminal(400, error_code="upstream_rejected", error_message="no"),)
        return (_DONE,)

    gateway.log.worker = worker
    begun = await _begin(gateway, [_line("fine"), _line("refused"), no_model])

    await (await _own(gateway, begun.id)).run()

    batch = await _client(gateway).batches.retrieve(begun.id)
    errors = {line["custom_id"]: line for line in await _results(gateway, batch.error_file_id)}
    assert batch.status == "completed"
    assert [line["custom_id"] for line in await _results(gateway, batch.output_file_id)] == ["fine"]
    assert errors.keys() == {"refused", "no-model"}
    assert errors["refused"]["response"]["status_code"] == 400
    assert errors["refused"]["response"]["body"]["error"]["message"] == "no"
    assert errors["no-model"]["response"]["status_code"] == 404
    assert batch.request_counts is not None
    assert batch.request_counts.failed == 2


async def test_a_line_that_was_refused_for_nothing_is_tried_again(tmp_path: Path) -> None:
    """Nobody waits for it: a rate limit, an overload or a missing backend passes."""
    refusals = [
        Terminal(429, error_code="RATE_LIMIT_EXCEEDED"),
        Terminal(503, error_code="no_backend_available"),
        Terminal(503, error_code="server_is_overloaded"),
    ]
    gateway = _gateway(tmp_path, lambda _: (refusals.pop() if refusals else _DONE,))
    begun = await _begin(gateway, [_line("patient")])

    await (await _own(gateway, begun.id)).run()

    batch = await _client(gateway).batches.retrieve(begun.id)
    assert batch.status == "completed"
    assert len(await _results(gateway, batch.output_file_id)) == 1
    assert len(gateway.log.accepted) == 4


async def test_what_was_paid_for_is_not_run_again(tmp_path: Path) -> None:
    """A failure that used a backend is what becomes of its line."""
    paid = Terminal(503, error_code="no_backend_available", usage=Usage(5, 0, 1, estimated=True))
    gateway = _gateway(tmp_path, lambda _: (paid,))
    begun = await _begin(gateway, [_line("paid")])

    await (await _own(gateway, begun.id)).run()

    assert len(gateway.log.accepted) == 1
    batch = await _client(gateway).batches.retrieve(begun.id)
    assert len(await _results(gateway, batch.error_file_id)) == 1


@pytest.mark.parametrize("seed", range(4))
async def test_whoever_takes_a_killed_batch_over_runs_each_line_once(
    tmp_path: Path, seed: int
) -> None:
    """Killed three times at different points: before and behind what it kept."""
    gateway = _gateway(tmp_path)
    begun = await _begin(gateway, [_line(f"line-{number}") for number in range(40)])
    for kill in range(1, 4):
        run, at = await _own(gateway, begun.id), 9 * kill + seed
        await _kill(run, lambda at=at: len(gateway.log.accepted) >= at)  # type: ignore[misc]

    await (await _own(gateway, begun.id)).run()

    batch = await _client(gateway).batches.retrieve(begun.id)
    results = await _results(gateway, batch.output_file_id)
    assert batch.status == "completed"
    assert Counter(line["custom_id"] for line in results) == {
        f"line-{number}": 1 for number in range(40)
    }
    assert len(gateway.log.accepted) == 40
    assert batch.request_counts is not None
    assert batch.request_counts.completed == 40


async def test_an_owner_that_was_thought_dead_writes_where_nobody_looks(tmp_path: Path) -> None:
    """Its states have an older fence, and its lines are those of the other."""
    gateway = _gateway(tmp_path)
    begun = await _begin(gateway, [_line(f"line-{number}") for number in range(10)])
    dead = await _own(gateway, begun.id)

    told, _ = await asyncio.gather(
        dead.run(), (await _own(gateway, begun.id)).run(), return_exceptions=True
    )
    await _store(gateway).tell(dead.batch.to("in_progress", 1), dead.fence)

    batch = await _client(gateway).batches.retrieve(begun.id)
    results = await _results(gateway, batch.output_file_id)
    assert isinstance(told, Transient)
    assert batch.status == "completed"
    assert len({line["custom_id"] for line in results}) == len(results) == 10
    assert len(gateway.log.accepted) == 10


async def test_a_batch_is_run_by_one_process(tmp_path: Path) -> None:
    """Who has no lease does nothing; who dies leaves it to another."""
    gateway = _gateway(tmp_path, lambda _: ())
    begun = await _begin(gateway, [_line("slow")])
    held: dict[str, str] = {}
    public = gateway.public

    def runner(token: str) -> BatchRunner:
        keeper, leases = public.gatekeeper, _Leases(held, token)
        return BatchRunner(
            _store(gateway), leases, public.starter, keeper.clock, 4, keeper, Pace(1e9)  # type: ignore[arg-type]
        )  # fmt: skip

    first, second = runner("first"), runner("second")
    await first.look()
    await second.look()
    assert (len(first.running), len(second.running)) == (1, 0)
    await until(lambda: len(gateway.log.accepted) == 1)
    for task in first.running.values():
        task.cancel()
    await asyncio.gather(*first.running.values(), return_exceptions=True)
    assert held == {}

    (accepted,) = gateway.log.accepted
    gateway.log.worker = lambda _: (_DONE,)
    await second.look()
    gateway.log.work(accepted)
    await asyncio.gather(*second.running.values())

    batch = await _client(gateway).batches.retrieve(begun.id)
    assert (batch.status, len(gateway.log.accepted), held) == ("completed", 1, {})


async def test_a_cancelled_batch_ends_with_what_it_has(tmp_path: Path) -> None:
    """Lines under way are cancelled, others never begun."""
    gateway = _gateway(tmp_path, lambda each: (_DONE,) if b"fine" in each.payload else ())
    begun = await _begin(gateway, [_line("fine"), *(_line(f"slow-{at}") for at in range(20))])
    run = await _own(gateway, begun.id)
    running = asyncio.create_task(run.run())
    await until(lambda: len(gateway.log.accepted) == 5)

    told = await _client(gateway).batches.cancel(begun.id)
    await until(lambda: run.batch.status == "cancelling")
    cancelled = Terminal(409, error_code="request_cancelled")
    gateway.log.worker = lambda _: (cancelled,)
    for accepted in gateway.log.accepted[1:]:
        gateway.log.work(accepted)
    await running

    batch = await _client(gateway).batches.retrieve(begun.id)
    assert (told.status, batch.status) == ("cancelling", "cancelled")
    assert len(await _results(gateway, batch.output_file_id)) == 1
    assert len(gateway.log.accepted) < 21
    assert (await _client(gateway).batches.cancel(begun.id)).status == "cancelled"


async def test_lines_that_have_no_time_left_say_so(tmp_path: Path) -> None:
    """The batch is expired, and what ended before stands in its results."""
    gateway = _gateway(tmp_path)
    begun = await _begin(gateway, [_line(f"line-{number}") for number in range(10)])
    run = await _own(gateway, begun.id, lines_max=1)
    await _kill(run, lambda: len(gateway.log.accepted) >= 4)

    clock = gateway.gatekeeper.clock
    clock.now_ms = lambda: NOW_MS + 86_400_000  # type: ignore[method-assign]
    await (await _own(gateway, begun.id)).run()

    batch = await _client(gateway).batches.retrieve(begun.id)
    results = await _results(gateway, batch.output_file_id)
    errors = await _results(gateway, batch.error_file_id)
    assert batch.status == "expired"
    assert batch.expired_at == NOW_MS // 1_000 + 86_400
    assert len(results) + len(errors) == 10
    assert {line["error"]["code"] for line in errors} == {"batch_expired"}
    assert {line["response"] for line in errors} == {None}
    assert len(gateway.log.accepted) <= 5


async def test_a_batch_of_a_key_that_was_revoked_runs_nothing_more(tmp_path: Path) -> None:
    """Its lines end as its requests would."""
    gateway = _gateway(tmp_path)
    begun = await _begin(gateway, [_line("late")])
    known = gateway.config.snapshot
    object.__setattr__(
        known, "keys", {key: row for key, row in known.keys.items() if key != "key_a"}
    )

    await (await _own(gateway, begun.id)).run()

    (state,) = [await _store(gateway).find("acme", begun.id)]
    assert state is not None
    assert (state[0].failed, state[0].completed) == (1, 0)
    assert gateway.log.records == []


async def test_a_defect_in_a_line_costs_that_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends as a request with a defect does."""
    gateway = _gateway(tmp_path)
    begun = await _begin(gateway, [_line("a"), _line("b")])
    validated = batch_requests.LineRunner._validated

    def odd(self: Any, number: int, again: int, line: Any) -> Any:
        if number == 1:
            raise RuntimeError("a defect")
        return validated(self, number, again, line)

    monkeypatch.setattr(batch_requests.LineRunner, "_validated", odd)
    await (await _own(gateway, begun.id)).run()

    batch = await _client(gateway).batches.retrieve(begun.id)
    (error,) = await _results(gateway, batch.error_file_id)
    assert (error["custom_id"], error["response"]["status_code"]) == ("a", 500)
    assert len(await _results(gateway, batch.output_file_id)) == 1


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({}, "input_file_id"),
        ({"endpoint": "/v1/jobs"}, "endpoint"),
        ({"completion_window": "1h"}, "completion_window"),
        ({"metadata": {"a": 1}}, "metadata"),
        ({"metadata": {str(at): "x" for at in range(17)}}, "metadata"),
        ({"output_expires_after": {"anchor": "now", "seconds": 3_600}}, "output_expires_after"),
        (
            {"output_expires_after": {"anchor": "created_at", "seconds": 1}},
            "output_expires_after.seconds",
        ),
    ],
)
async def test_what_is_no_batch_is_refused_by_the_name_of_the_field(
    tmp_path: Path, fields: dict[str, Any], param: str
) -> None:
    """The first that is wrong."""
    body = {"input_file_id": "file-x", "endpoint": _URL, "completion_window": "24h", **fields}

    answer = await _gateway(tmp_path).client.post("/v1/batches", json=body)

    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


async def test_batches_are_listed_newest_first(tmp_path: Path) -> None:
    """Page by page, as the SDK asks; those of others are none."""
    gateway = _gateway(tmp_path)
    ids = sorted([(await _begin(gateway, [_line("a")])).id for _ in range(5)], reverse=True)

    listed = [batch.id async for batch in _client(gateway).batches.list(limit=2)]
    answer = await gateway.client.get(
        f"/v1/batches/{ids[0]}", headers={"x-api-key": UNKNOWN_SECRET}
    )

    assert listed == ids
    assert answer.status_code == 401
    assert (await gateway.client.get("/v1/batches/batch_x")).status_code == 404
    assert (await gateway.client.get("/v1/batches?limit=0")).status_code == 400


async def test_an_organization_has_so_many_batches_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """429 beyond."""
    monkeypatch.setattr("ingress.batches.desk.OPEN_MAX", 1)
    gateway = _gateway(tmp_path)
    await _begin(gateway, [_line("a")])

    with pytest.raises(openai.RateLimitError, match="batches"):
        await _begin(gateway, [_line("a")])


async def test_the_last_batches_of_an_organization_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that has not ended is never forgotten."""
    monkeypatch.setattr("ingress.batches.desk.KEPT_MAX", 2)
    gateway = _gateway(tmp_path)
    begun = [await _begin(gateway, [_line("a")]) for _ in range(2)]
    oldest = min(begun, key=lambda batch: batch.id)
    await (await _own(gateway, oldest.id)).run()

    await _begin(gateway, [_line("a")])

    listed = [batch.id async for batch in _client(gateway).batches.list()]
    assert len(listed) == 2
    assert oldest.id not in listed


def test_a_batch_knows_when_it_was_made() -> None:
    """From its id."""
    fields: Any = {"operation": "", "endpoint": "", "input_file_id": "", "input_bytes": 0}
    made = "batch_018bcfe568007000800000000000abcd"
    batch = Batch(id=made, caller=None, expires_at_s=0, output_kept_s=0, **fields)  # type: ignore[arg-type]

    assert batch.created_at_s == NOW_MS // 1_000


async def test_a_batch_does_not_end_before_its_lines(tmp_path: Path) -> None:
    """A process that gives up what waits leaves them to the next one."""
    gateway = _gateway(tmp_path, lambda _: ())
    begun = await _begin(gateway, [_line("a")])
    running = asyncio.create_task((await _own(gateway, begun.id)).run())
    await until(lambda: len(gateway.pending) == 1)
    gateway.pending.abandon()

    with pytest.raises(batch_requests.LineStopped):
        await running

    batch = await _client(gateway).batches.retrieve(begun.id)
    assert (batch.status, batch.output_file_id) == ("in_progress", None)


async def test_results_are_never_written_without_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a part is gone, its lines are asked for again: they have their answers still."""
    gateway = _gateway(tmp_path)
    begun = await _begin(gateway, [_line(f"line-{number}") for number in range(4)])
    store, run = _store(gateway), await _own(gateway, begun.id)
    finish = BatchRun._finish

    async def after_a_loss(self: BatchRun) -> None:
        for path in await store.files.paths(parts_prefix("acme", begun.id)):
            await store.files.remove(path)
        await finish(self)

    monkeypatch.setattr(BatchRun, "_finish", after_a_loss)
    with pytest.raises(batch_requests.LineStopped):
        await run.run()
    monkeypatch.setattr(BatchRun, "_finish", finish)
    await (await _own(gateway, begun.id)).run()

    batch = await _client(gateway).batches.retrieve(begun.id)
    assert len(await _results(gateway, batch.output_file_id)) == 4
    assert len(gateway.log.accepted) == 4


async def test_lines_begin_at_a_pace() -> None:
    """However fast they are answered."""
    pace, loop = Pace(100), asyncio.get_running_loop()
    begun_s = loop.time()

    await asyncio.gather(*(pace.turn() for _ in range(11)))

    assert loop.time() - begun_s >= 0.1
