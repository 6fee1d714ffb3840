"""What harms batches from outside: a store of files that is full or goes away, and organizations with many batches."""

from __future__ import annotations

import asyncio
import resource
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ingress.batches import run as batch_run
from ingress.batches.batch import Batch, batch_id
from ingress.batches.figures import BatchFigures
from ingress.batches.pace import Pace
from ingress.batches.run import BatchRun
from ingress.batches.runner import BatchRunner
from ingress.files.names import content_path
from ingress.files.stock import FilesAway
from schemas.frames import Terminal
from tests.support.batches import (
    DONE,
    batch_gateway,
    batch_store,
    begin_batch,
    input_line,
    own_batch,
    results_of,
    sdk_client,
)
from tests.support.gateway import Gateway
from tests.support.waiting import until

_LINES = 60


class _AnyLease:
    """One process, which nobody disputes a batch."""

    async def take(self, _: str) -> bool:
        return True

    async def give_back(self, _: str) -> None:
        return


class _DyingStore:
    """The store of a process that dies at the end of its batch, after so many writes of files and states."""

    def __init__(self, run: BatchRun, writes: int) -> None:
        self._run, self._store, self._left = run, run.store, writes

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)
        is_write = name in ("tell", "write_file")
        return partial(self._write, method) if is_write else method

    async def _write(self, method: Any, *arguments: Any) -> Any:
        if self._run.batch.status in ("finalizing", "completed"):
            self._left -= 1
            if self._left < 0:
                raise asyncio.CancelledError
        return await method(*arguments)


@contextmanager
def _no_room_for(size_bytes: int) -> Iterator[None]:
    """The system writes no file that is larger, as where a disk is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture(autouse=True)
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is looked at by the second is looked at at once."""
    monkeypatch.setattr(batch_run, "_LOOK_S", 0.01)


async def test_a_full_store_costs_no_line_and_no_second_request(tmp_path: Path) -> None:
    """What ended and could not be kept is asked for again when there is room, and has its answer."""
    gateway = batch_gateway(tmp_path)
    names = [f"line-{number}" for number in range(_LINES)]
    begun = await begin_batch(gateway, list(map(input_line, names)))
    run = await own_batch(gateway, begun.id, lines_max=_LINES)

    with _no_room_for(2_048), pytest.raises(FilesAway):
        await run.run()
    before = len(gateway.log.accepted)
    await (await own_batch(gateway, begun.id)).run()

    batch = await sdk_client(gateway).batches.retrieve(begun.id)
    results = await results_of(gateway, batch.output_file_id)
    assert batch.status == "completed"
    assert before > 0
    assert Counter(line["custom_id"] for line in results) == dict.fromkeys(names, 1)
    assert len(gateway.log.accepted) == _LINES


async def test_whoever_is_killed_while_results_are_written_leaves_them_to_the_next(
    tmp_path: Path,
) -> None:
    """Before the first write of the end, before the second, and so on: the same files, with each line once."""
    gateway = batch_gateway(tmp_path, lambda each: (_fate(each.payload),))
    names = [f"{fate}-{number}" for number in range(10) for fate in ("fine", "bad")]
    begun = await begin_batch(gateway, list(map(input_line, names)))
    for writes in range(3):
        run = await own_batch(gateway, begun.id)
        run.store = _DyingStore(run, writes)  # type: ignore[assignment]
        with pytest.raises(asyncio.CancelledError):
            await run.run()

    await (await own_batch(gateway, begun.id)).run()

    batch = await sdk_client(gateway).batches.retrieve(begun.id)
    results = await results_of(gateway, batch.output_file_id)
    errors = await results_of(gateway, batch.error_file_id)
    assert Counter(line["custom_id"] for line in [*results, *errors]) == dict.fromkeys(names, 1)
    files = [file.id async for file in sdk_client(gateway).files.list(purpose="batch_output")]
    assert set(files) == {batch.output_file_id, batch.error_file_id}
    assert len(files) == 2
    assert len(gateway.log.accepted) == len(names)


async def test_a_small_batch_goes_on_beside_somebody_with_as_many_as_may_be(
    tmp_path: Path,
) -> None:
    """Of an organization two run in one process, and lines begin in turn."""
    gateway = batch_gateway(tmp_path)
    store, clock = batch_store(gateway), gateway.gatekeeper.clock
    many = [await begin_batch(gateway, [input_line(f"{n}") for n in range(40)]) for _ in range(32)]
    found = await store.find("acme", many[0].id)
    assert found is not None
    small = await _small_batch_of("beta", gateway, found[0])
    runner = BatchRunner(
        store,
        _AnyLease(),  # type: ignore[arg-type]
        gateway.public.starter,
        clock,
        4,
        Pace(400.0),
        BatchFigures(gateway.metrics, clock),
    )

    await runner.look()
    of_many = [each for org, each in runner.running if org == "acme"]
    await until(lambda: ("beta", small) in runner.running and runner.running["beta", small].done())
    left = [task for (org, _), task in runner.running.items() if org == "acme" and not task.done()]
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)

    ended = await store.find("beta", small)
    assert len(of_many) == 2
    assert ended is not None
    assert ended[0].total == ended[0].completed + ended[0].failed == 5
    assert left, "the others had not ended"


async def _small_batch_of(org: str, gateway: Gateway, like: Batch) -> str:
    """A batch of five lines of another organization; its id."""
    files = batch_store(gateway).files
    caller = msgspec.structs.replace(like.caller, org=org)
    lines = b"\n".join(msgspec.json.encode(input_line(f"small-{n}")) for n in range(5))
    await files.put(content_path(org, like.input_file_id), lines)
    batch = msgspec.structs.replace(
        like,
        id=batch_id(like.created_at_s * 1_000 + 5_000, bytes(10)),
        caller=caller,
        input_bytes=len(lines),
    )
    await batch_store(gateway).begin(batch)
    return batch.id


def _fate(payload: bytes) -> Terminal:
    return DONE if b"fine" in payload else Terminal(400, error_code="invalid_request")
