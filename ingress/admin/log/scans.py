"""Scans: long readings for an operator, each a process of its own at low priority.

They take hours of somebody's log and tables, so they share no event loop, no heap and no turn of the
processor with anybody who waits: one process per scan, one scan at a time per kind. It ends with its
answer, with its deadline, when whoever asked leaves, and when this process does.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

import msgspec

from schemas.failures import Defect, Transient
from schemas.runtime.process.clock import Clock

COMMAND: Final = (sys.executable, "-m", "ingress.admin.scan")
"""What runs a scan; its kind follows."""
_WAITING_MAX: Final = 8
_LINE_BYTES_MAX: Final = 16 * 1024 * 1024

Tell: TypeAlias = Callable[[int, int], None]
"""Is told how many records were read of how many."""


class ScanUnavailable(Transient):
    """The scan was not done: what it reads is away, or others are before it."""


class ScanFailed(Defect):
    """The scan ended without an answer."""


class Line(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a scan writes, one in a line: how far it is, then its answer or why there is none."""

    done: int | None = None
    total: int | None = None
    answer: Any = None
    unavailable: str | None = None


@dataclass(slots=True)
class Running:
    """A scan under way, and how many records it has read of how many."""

    kind: str
    began_ms: int
    done: int = 0
    total: int = 0


@dataclass(slots=True)
class _Turn:
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    waiting: int = 0


@dataclass(slots=True)
class Scans:
    """The scans of this process."""

    clock: Clock
    command: Sequence[str] = COMMAND
    running: dict[str, Running] = field(default_factory=dict)
    """By kind."""
    _turns: dict[str, _Turn] = field(default_factory=dict)

    async def run(self, kind: str, job: msgspec.Struct, within_s: float) -> Any:
        """The scan's answer, after those of its kind that are before it.

        Raises ``ScanUnavailable`` and ``ScanFailed``. Who cancels it ends its process.
        """
        try:
            async with asyncio.timeout(within_s), self._turn(kind):
                self.running[kind] = Running(kind, self.clock.now_ms())
                try:
                    return await self._scan(self.running[kind], job)
                finally:
                    del self.running[kind]
        except TimeoutError as error:
            detail = f"{kind} was not done within {within_s:.0f} s"
            raise ScanUnavailable(detail) from error

    @asynccontextmanager
    async def _turn(self, kind: str) -> AsyncIterator[None]:
        turn = self._turns.setdefault(kind, _Turn())
        if turn.waiting >= _WAITING_MAX:
            raise ScanUnavailable(f"{turn.waiting} wait for a {kind} already")
        turn.waiting += 1
        try:
            await turn.lock.acquire()
        finally:
            turn.waiting -= 1
        try:
            yield
        finally:
            turn.lock.release()

    async def _scan(self, running: Running, job: msgspec.Struct) -> Any:
        process = await asyncio.create_subprocess_exec(
            *self.command, running.kind,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=_LINE_BYTES_MAX,
        )  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            # It stays open: that it closes tells the scan that nobody is left to hear it.
            process.stdin.write(msgspec.json.encode(job) + b"\n")
            async for text in process.stdout:
                line = msgspec.json.decode(text, type=Line)
                if line.unavailable is not None:
                    raise ScanUnavailable(line.unavailable)
                if line.answer is not None:
                    return line.answer
                running.done, running.total = line.done or 0, line.total or 0
            raise ScanFailed(f"{running.kind} ended with {await process.wait()} and no answer")
        finally:
            await _end(process)


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.kill()
    if process.stdin is not None:
        process.stdin.close()
    await process.wait()
