"""Runs one batch from wherever its last owner left it: reads its input, runs its lines, and writes what came of them.

Lines that ended are kept in parts of a megabyte. What ended and was not kept when a process was killed is begun again under the same
key, and its answer is the one it had: a line stands in the results once, and is paid for once.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

import msgspec

from ingress.apis.openai.files import BATCH_OUTPUT
from ingress.batches.batch import Batch, BatchError, BatchStatus, output_id
from ingress.batches.figures import BatchFigures
from ingress.batches.lines import EndedLine, InputLine, expired_line, output_line, read_line
from ingress.batches.pace import Pace
from ingress.batches.requests import LineRunner, LineStopped
from ingress.batches.store import BatchStore
from ingress.files.names import StoredFile
from ingress.files.stock import FileMissing
from ingress.http.refusals import Refusal
from ingress.requests.begin import RequestStarter
from schemas.errors import ErrorCode
from schemas.log_events import LogEvent
from schemas.runtime.process.clock import Clock
from schemas.runtime.process.event_log import EventLog

_LOG = EventLog(__name__)

LINES_MAX: Final = 50_000
LINE_BYTES_MAX: Final = 4 * 1024 * 1024 + 64 * 1024
_ERRORS_MAX: Final = 100
_PART_BYTES: Final = 1024 * 1024
_HELD_BYTES_MAX: Final = 2 * _PART_BYTES
_ROOM_LOOK_S: Final = 0.05
_TELL_EVERY_S: Final = 60.0
_LOOK_S: Final = 2.0
"""How often it is looked whether somebody cancelled, and what ended is kept."""


@dataclass(slots=True)
class BatchRun:
    """One owner's run of one batch."""

    batch: Batch
    fence: int
    store: BatchStore
    starter: RequestStarter
    clock: Clock
    lines_max: int
    """Lines under way at once."""
    pace: Pace
    figures: BatchFigures
    _done: set[int] = field(default_factory=set)
    _held: list[EndedLine] = field(default_factory=list)
    _held_bytes: int = 0
    _parts: int = 0
    _is_cancelled: bool = False
    _told_s: float = -_TELL_EVERY_S
    _is_full: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> None:
        """To its end. Raises ``FilesAway`` while its parts cannot be reached: whoever owns it next goes on."""
        if self.batch.status == "validating":
            await self._validate()
        if self.batch.status != "failed":
            await self._restore()
            await self._run_lines()
            await self._stop_unless_owner()
            await self._finish()
        await self._stop_unless_owner()
        await self.store.close(self.batch)

    async def _stop_unless_owner(self) -> None:
        """What another owner needs is his. Raises ``LineStopped``."""
        found = await self.store.find(self.batch.caller.org, self.batch.id)
        if found is None or found[1] != self.fence:
            raise LineStopped("another process runs this batch")

    async def _validate(self) -> None:
        """Read the whole input, so that a mistake in the last line costs nothing."""
        total, errors = 0, list[BatchError]()
        try:
            async with self.pace.checking:
                total, errors = await self._checked()
        except FileMissing:
            errors = [
                BatchError("file_not_found", "The input file is there no more.", "input_file_id")
            ]
        if not total and not errors:
            errors = [BatchError("empty_file", "The input file has no lines.", "input_file_id")]
        status: BatchStatus = "failed" if errors else "in_progress"
        await self._tell(status, total=total, errors=tuple(errors))

    async def _checked(self) -> tuple[int, list[BatchError]]:
        total, errors, seen = 0, list[BatchError](), set[bytes]()
        async for number, line in self._lines():
            if line is None:
                errors.append(
                    BatchError(
                        "line_too_long", f"A line may have {LINE_BYTES_MAX} bytes.", None, number
                    )
                )
                break
            total += 1
            if total > LINES_MAX:
                return total, [
                    BatchError(
                        "too_many_tasks", f"A batch may have {LINES_MAX} lines.", None, number
                    )
                ]
            read = read_line(line, number, self.batch.endpoint)
            if isinstance(read, InputLine):
                name = hashlib.blake2b(read.custom_id.encode(), digest_size=16).digest()
                if name in seen:
                    read = BatchError(
                        "duplicate_custom_id",
                        "The custom_id stands in an earlier line.",
                        "custom_id",
                        number,
                    )
                seen.add(name)
            if isinstance(read, BatchError):
                errors.append(read)
                if len(errors) >= _ERRORS_MAX:
                    break
            await asyncio.sleep(0)  # What clients wait for goes on between two lines.
        return total, errors

    async def _restore(self) -> None:
        """Learn which lines have ended, and count them."""
        counts = Counter[str]()
        async for line in self._ended():
            self._done.add(line.number)
            counts.update(counts_of([line]))
        told = {name: counts[name] for name in counts_of([])}
        self.batch = msgspec.structs.replace(self.batch, **told)

    async def _run_lines(self) -> None:
        """Run what has not ended, as many lines at once as may be under way. Raises ``FilesAway``."""
        runner = LineRunner(
            self.batch, self.starter, self.clock, self._is_stopping, self.pace, self.figures
        )
        await self._look_for_cancel()
        launching = asyncio.create_task(self._launch(runner))
        launching.add_done_callback(lambda _: self._is_full.set())
        keeping = asyncio.create_task(self._keep_up(runner, launching))
        try:
            await asyncio.wait({launching, keeping}, return_when=asyncio.FIRST_EXCEPTION)
            for ended in (launching, keeping):
                if ended.done():
                    ended.result()
        finally:
            for task in (launching, keeping):
                task.cancel()
            await asyncio.gather(launching, keeping, return_exceptions=True)
        ended_lines = self.batch.completed + self.batch.failed
        if not self._is_cancelled and ended_lines != self.batch.total:
            raise LineStopped(f"{ended_lines} of {self.batch.total} lines ended")

    async def _launch(self, runner: LineRunner) -> None:
        """Begin each line in its turn; returns when all have ended."""
        places = asyncio.Semaphore(self.lines_max)

        async def one(number: int, line: bytes) -> None:
            try:
                await self._line(runner, number, line)
            finally:
                places.release()

        async with asyncio.TaskGroup() as lines:
            async for number, line in self._lines():
                if line is not None and number not in self._done:
                    await places.acquire()
                    await self.pace.turn()
                    if self._is_cancelled:
                        return
                    lines.create_task(one(number, line))

    async def _line(self, runner: LineRunner, number: int, line: bytes) -> None:
        """One line, of which a defect costs no other."""
        read = read_line(line, number, self.batch.endpoint)
        assert isinstance(read, InputLine), "the input was checked"
        with self.figures.line():
            ended = await self._answer(runner, number, read)
        if ended is None:
            return
        self.figures.ended(ended)
        while self._held_bytes >= _HELD_BYTES_MAX:  # noqa: ASYNC110  # many may wait, and rarely
            await asyncio.sleep(
                _ROOM_LOOK_S
            )  # The store is slow: nothing more is held than it takes.
        self._held.append(ended)
        self._held_bytes += len(ended.output)
        if self._held_bytes >= _PART_BYTES:
            self._is_full.set()

    async def _answer(self, runner: LineRunner, number: int, read: InputLine) -> EndedLine | None:
        """How the line ended; ``None`` where it is not to be tried again here."""
        batch = self.batch.id
        try:
            if self._is_over():
                return expired_line(batch, number, read.custom_id)
            return await runner.answer(number, read)
        except LineStopped:
            return expired_line(batch, number, read.custom_id) if self._is_over() else None
        except Exception as defect:  # noqa: BLE001  # its neighbours go on
            _LOG.event(LogEvent.BATCH_LINE_DEFECT, org=self.batch.caller.org, defect=defect)
            refusal = Refusal(ErrorCode.INTERNAL_ERROR, "Something went wrong here.")
            return output_line(batch, number, read.custom_id, None, refusal, None)

    async def _keep_up(self, runner: LineRunner, launching: asyncio.Task[None]) -> None:
        """Keep what ended, and see whether it was cancelled, until all was kept. Raises ``FilesAway``."""
        is_last = False
        while not is_last:
            is_last = launching.done()
            if not is_last:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._is_full.wait(), _LOOK_S)
                self._is_full.clear()
            await self._keep()
            self._tell_waiting(runner)
            await self._look_for_cancel()
            if self._is_cancelled:
                await runner.cancel()

    def _tell_waiting(self, runner: LineRunner) -> None:
        """Say once in a while that nothing of it goes on, and why: else it looks as one that hangs."""
        now_s, lines = self.clock.monotonic_s(), runner.waiting.total()
        if not lines or runner.under_way or now_s < self._told_s + _TELL_EVERY_S:
            return
        self._told_s = now_s
        ((code, _),) = runner.waiting.most_common(1)
        org, batch = self.batch.caller.org, self.batch.id
        _LOG.event(LogEvent.BATCH_LINES_WAIT, org=org, batch_id=batch, count=lines, code=code)

    async def _look_for_cancel(self) -> None:
        if not self._is_cancelled and await self.store.is_cancelled(
            self.batch.caller.org, self.batch.id
        ):
            self._is_cancelled = True
            await self._tell("cancelling")

    async def _keep(self) -> None:
        """Write what ended, and say how far it came."""
        held, self._held, self._held_bytes = self._held, [], 0
        if not held:
            return
        self._parts += 1
        content = b"".join(msgspec.json.encode(line) + b"\n" for line in held)
        await self.store.add_part(self.batch, self.fence, self._parts, content)
        more, batch = counts_of(held), self.batch
        await self._tell(batch.status, **{name: getattr(batch, name) + more[name] for name in more})

    async def _finish(self) -> None:
        """Write the files of results and errors, then say that it ended."""
        if not self._is_cancelled and self.batch.status != "finalizing":
            await self._tell("finalizing")
        results = await self._write("output", is_error=False)
        errors = await self._write("error", is_error=True)
        status: BatchStatus = "cancelled" if self._is_cancelled else "completed"
        lines = [line.is_expired async for line in self._ended()]
        if len(lines) != self.batch.completed + self.batch.failed:
            raise LineStopped("parts are missing: their lines are asked for again")
        if status == "completed" and any(lines):
            status = "expired"
        await self._tell(status, output_file_id=results, error_file_id=errors)

    async def _write(self, what: str, *, is_error: bool) -> str | None:
        """One of its files; ``None`` where nothing would stand in it."""
        batch = self.batch
        file = StoredFile(
            output_id(batch.id, what),
            0,
            f"{batch.id}_{what}.jsonl",
            BATCH_OUTPUT,
            self.clock.now_ms() // 1_000 + batch.output_kept_s,
            batch.caller.owner,
        )

        async def pieces() -> AsyncIterator[bytes]:
            async for line in self._ended():
                if line.is_error == is_error:
                    yield bytes(line.output) + b"\n"

        return file.id if await self.store.write_file(batch.caller.org, file, pieces()) else None

    async def _ended(self) -> AsyncIterator[EndedLine]:
        """Each line that ended, once, whoever kept it how often."""
        seen = set[int]()
        async for part in self.store.parts(self.batch):
            for line in _read_part(part):
                if line.number not in seen:
                    seen.add(line.number)
                    yield line

    async def _lines(self) -> AsyncIterator[tuple[int, bytes | None]]:
        """The lines of the input with their numbers from 1; empty ones are none."""
        number = 0
        async for line in self.store.lines(self.batch, LINE_BYTES_MAX):
            number += 1
            if line is None or line.strip():
                yield number, line

    async def _tell(self, status: BatchStatus, **changes: object) -> None:
        """Say what it is now."""
        batch = msgspec.structs.replace(self.batch, **changes)
        if status != batch.status:
            batch = batch.to(status, self.clock.now_ms() // 1_000)
        self.batch = batch
        await self.store.tell(batch, self.fence)

    def _is_over(self) -> bool:
        """Whether its window of completion has passed."""
        return self.clock.now_ms() >= 1_000 * self.batch.expires_at_s

    def _is_stopping(self) -> bool:
        return self._is_cancelled or self._is_over()


def counts_of(lines: Sequence[EndedLine]) -> dict[str, int]:
    """What lines come to, by the names that a batch has for it."""
    failed = sum(line.is_error for line in lines)
    return {
        "completed": len(lines) - failed,
        "failed": failed,
        "input_tokens": sum(line.input_tokens for line in lines),
        "output_tokens": sum(line.output_tokens for line in lines),
    }


def _read_part(part: bytes) -> list[EndedLine]:
    return [msgspec.json.decode(line, type=EndedLine) for line in part.splitlines() if line]
