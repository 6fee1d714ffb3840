"""Long stretches are folded by processes of their own, and what becomes of those costs the rebuild a try at most."""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import psutil
import pytest
import pytest_asyncio

from accounting.earlier import EarlierRecords
from accounting.rebuild import fold_process, stretches
from accounting.rebuild import folders as subject
from accounting.rebuild.fold import Start
from accounting.rebuild.fold_process import Failed, Progress, Reply, Work, framed, work_on
from accounting.rebuild.folders import FoldDefect, FolderLost, Folders
from accounting.rebuild.old_layout import OldRequest
from accounting.rebuild.stretches import (
    Folded,
    FoldedHours,
    HourStretch,
    OutcomeStretch,
    fold_hours,
    fold_outcomes,
)
from schemas.events import Booking
from schemas.ids import uuid7
from schemas.ledger.rebuild_calls import RestoredClaim
from schemas.outgoing import outcome_record
from schemas.times import FULL
from tests.support.events import NOW_MS, attempt, finished
from tests.support.log_in_memory import LogInMemory
from tests.support.rebuild_scene import FoundAgain

_NOWHERE = "127.0.0.1:1"
_CLAIM = RestoredClaim(
    org="beta", key_hash="h", req="r", fingerprint="f", produce_by_ms=1, deadline_ms=2, until_ms=3
)
_OUTCOMES = OutcomeStretch(
    shard=0,
    begin=0,
    end=30_000,
    start=Start(2, NOW_MS, {("acme", "b:org/tokens:x"): (4,)}, {"beta": 9}),
    clock_ms=NOW_MS,
    times=FULL,
    before={("beta", uuid7(NOW_MS, (3).to_bytes(10))): OldRequest(claim=_CLAIM)},
)
_HOURS = HourStretch(shard=0, begin=0, end=30_000, start=_OUTCOMES.start, copies=frozenset({3}))
_REPLY: Any = msgspec.msgpack.Decoder(Reply)
_WORK: Any = msgspec.msgpack.Decoder(Work)


async def _ignore(records: int) -> None:
    """Nobody counts."""


def _log() -> LogInMemory:
    """Outcomes before and after the checkpoint, copies, older ids, keys, and what is none."""
    log = LogInMemory()
    for number in range(12):
        event = msgspec.structs.replace(
            finished(
                [attempt(input_tokens=number)],
                [Booking(key="b:org/tokens:x", unit="tokens", amount=number)],
            ),
            request_id=uuid7(NOW_MS - 5_000 * (number == 7), (number % 9).to_bytes(10)),
            org=("acme", "beta")[number % 2],
            deadline_ms=NOW_MS + 1_000,
            job="{}" if number == 5 else None,
        )
        log.append(outcome_record(event, "dispatcher"), 0, NOW_MS)
    return log


@pytest_asyncio.fixture
async def folders() -> AsyncIterator[Folders]:
    """Processes that find no broker."""
    made = Folders(EarlierRecords(_NOWHERE))
    yield made
    await made.end()


def _living() -> list[psutil.Process]:
    return [
        each
        for each in psutil.Process().children()
        if "accounting.rebuild.fold_process" in each.cmdline()
    ]


@pytest.mark.parametrize("work", [_OUTCOMES, _HOURS])
async def test_a_process_comes_to_what_its_parent_would(
    monkeypatch: pytest.MonkeyPatch, work: Any
) -> None:
    """Whatever is asked and said goes through the pipes."""
    log = _log()

    @asynccontextmanager
    async def opened(brokers: str) -> AsyncIterator[LogInMemory]:
        yield log

    monkeypatch.setattr(fold_process, "open_log", opened)
    monkeypatch.setattr(fold_process, "EarlierRecords", lambda _: FoundAgain(log))
    said: list[bytes] = []
    again = _WORK.decode(framed(work)[fold_process.LENGTH_BYTES :])
    await work_on(again, "", lambda reply: said.append(framed(reply)))

    progress, reply = (_REPLY.decode(each[fold_process.LENGTH_BYTES :]) for each in said)
    assert progress == Progress(12)
    if isinstance(work, HourStretch):
        here: Any = await fold_hours(work, log, _ignore)
        assert here.cells
    else:
        here = await fold_outcomes(work, log, FoundAgain(log), _ignore)
        assert here.balances
        assert here.copies
        assert len(here.kept) == 2
        assert len(here.written_late) == 1
        assert here.marks
    assert reply == _REPLY.decode(msgspec.msgpack.encode(here))


async def test_a_short_stretch_needs_no_process(folders: Folders) -> None:
    """It is folded before one had begun."""
    short = msgspec.structs.replace(_HOURS, end=stretches._LONG)
    assert (await folders.hours(short, _log(), _ignore)).cells
    assert not _living()


async def test_processes_stay_until_they_are_ended(folders: Folders) -> None:
    """One that could not read is asked again; two at the most work beside each other."""
    asked = [folders.hours(_HOURS, LogInMemory(), _ignore) for _ in range(4)]
    failures = await asyncio.gather(*asked, return_exceptions=True)
    assert [type(each) for each in failures] == [FolderLost] * 4
    assert all("LogUnreadable" in str(each) for each in failures)
    assert len(_living()) == subject.AT_ONCE
    await folders.end()
    assert not _living()


def _child(monkeypatch: pytest.MonkeyPatch, script: str) -> list[Process]:
    """What works instead of the process, where one is needed."""
    begun: list[Process] = []

    async def begin(_: str) -> Process:
        begun.append(
            await asyncio.create_subprocess_exec(
                sys.executable, "-Sc", script, stdin=PIPE, stdout=PIPE
            )
        )
        return begun[-1]

    monkeypatch.setattr(subject, "_begin", begin)
    return begun


def _says(*replies: Reply) -> str:
    whole = b"".join(map(framed, replies))
    return f"import os; os.read(0, 1); os.write(1, {whole!r}); os.read(0, 1 << 20); os.read(0, 1)"


async def test_what_it_says_meanwhile_is_counted(
    folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    """People ask how far a rebuild is."""
    counted: list[int] = []

    async def count(records: int) -> None:
        counted.append(records)

    folded = Folded(rows=3, seen=frozenset({"a"}))
    _child(monkeypatch, _says(Progress(5), Progress(7), folded))
    assert await folders.outcomes(_OUTCOMES, LogInMemory(), count) == folded
    assert counted == [5, 7]


@pytest.mark.parametrize("script", ["", "import os; os.write(1, bytes(7))", "input(); input()"])
async def test_a_process_that_ends_or_is_silent_is_given_up(
    folders: Folders, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    """Another try has another process."""
    monkeypatch.setattr(subject, "_SILENT_MAX_S", 1.0)
    begun = _child(monkeypatch, script)
    with pytest.raises(FolderLost):
        await folders.outcomes(_OUTCOMES, LogInMemory(), _ignore)
    assert begun[0].returncode is not None
    assert not folders._idle


async def test_a_defect_is_told_as_one(folders: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for it to pass; what is not what was asked for is one, too."""
    _child(monkeypatch, _says(Failed("a bug", is_defect=True)))
    with pytest.raises(FoldDefect, match="a bug"):
        await folders.outcomes(_OUTCOMES, LogInMemory(), _ignore)
    await folders.end()
    _child(monkeypatch, _says(FoldedHours(cells={}, changed={})))
    with pytest.raises(FoldDefect, match="is no Folded"):
        await folders.outcomes(_OUTCOMES, LogInMemory(), _ignore)


async def test_who_stops_to_care_ends_the_process(
    folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A later owner has begun, or this one is told to stop."""
    begun = _child(monkeypatch, "input(); input()")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5):
            await folders.outcomes(_OUTCOMES, LogInMemory(), _ignore)
    assert begun[0].returncode is not None


async def test_a_process_that_nobody_hears_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its parent was killed; it would read for nobody."""

    class _Endless(LogInMemory):
        async def pages(self, *_: Any) -> AsyncIterator[list[Any]]:
            while True:
                await asyncio.sleep(0.001)
                yield []

    @asynccontextmanager
    async def opened(brokers: str) -> AsyncIterator[LogInMemory]:
        yield _Endless()

    def say(reply: Reply) -> None:
        raise BrokenPipeError

    monkeypatch.setattr(fold_process, "open_log", opened)
    monkeypatch.setattr(fold_process, "_TELLS_EVERY_S", 0.01)
    with pytest.raises(BrokenPipeError):
        await work_on(_HOURS, "", say)
