"""One supervised child process: started, watched, restarted with backoff, stopped for certain.

Invariants: a child never outlives this process (the kernel kills it when the thread that started
it ends, so stacks are started from the main thread), never sees the terminal's Ctrl-C (it has its
own process group), and is waited for after every signal, so its pid is never reused under us.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from deploy.embedded.log_files import CHECK_PERIOD_S, bound_log, last_words
from deploy.embedded.probes import owns_port
from deploy.embedded.problem import StackError

PROBE_INTERVAL_S = 0.05
FIRST_DELAY_S = 0.2
LONGEST_DELAY_S = 10.0
STABLE_AFTER_S = 30.0
PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class ProcessSpec:
    """How to run one child and how to tell that it is ready."""

    name: str
    argv: tuple[str, ...]
    environment: Mapping[str, str]
    log_path: Path
    address: str
    is_ready: Callable[[], Awaitable[bool]]
    start_deadline_s: float = 60.0
    stop_deadline_s: float = 8.0

    @property
    def port(self) -> int:
        """The port of the address."""
        return urlsplit(self.address if "://" in self.address else f"//{self.address}").port or 0


@dataclass(frozen=True)
class Progress:
    """One line of the story: `name` became ready (after `seconds`), failed, or has a note."""

    name: str
    is_ok: bool
    text: str
    seconds: float | None = None


def restart_delay_s(failures: int) -> float:
    """Seconds to wait before the restart after the n-th failure in a row (n from 1), capped."""
    return min(FIRST_DELAY_S * 2.0 ** min(failures - 1, 16), LONGEST_DELAY_S)


class SupervisedProcess:
    """Keeps the child of one spec alive between `start` and `stop`."""

    def __init__(self, spec: ProcessSpec, report: Callable[[Progress], None]) -> None:
        self.spec = spec
        self.restarts = 0
        self._report = report
        self._child: asyncio.subprocess.Process | None = None
        self._watch: asyncio.Task[None] | None = None
        self._log_guard: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        """The pid of the living child, or None between a death and the restart."""
        if self._child is None or self._child.returncode is not None:
            return None
        return self._child.pid

    async def start(self) -> None:
        """Start the child and return once it is ready.

        Raises StackError if it dies first or misses its deadline; it is not retried then.
        """
        self._log_guard = asyncio.create_task(_keep_bounded(self.spec.log_path))
        await self._launch()
        self._watch = asyncio.create_task(self._keep_alive(), name=f"watch {self.spec.name}")

    async def stop(self) -> None:
        """SIGTERM, then SIGKILL after the spec's deadline; returns when the child is gone."""
        if self._watch is not None:
            self._watch.cancel()
            await asyncio.wait([self._watch])
            self._watch = None
        await self._end(signal.SIGTERM, self.spec.stop_deadline_s)
        if self._log_guard is not None:
            self._log_guard.cancel()
            await asyncio.wait([self._log_guard])
            self._log_guard = None

    async def restart(self) -> None:
        """Stop and start again, in order; same failures as `start`."""
        await self.stop()
        await self.start()

    def kill(self) -> None:
        """SIGKILL the child's group at once, without waiting; for a second Ctrl-C."""
        if self._watch is not None:
            self._watch.cancel()
        self._signal(signal.SIGKILL)

    async def _launch(self) -> None:
        started_s = asyncio.get_running_loop().time()
        self._child = await _spawn(self.spec)
        try:
            async with asyncio.timeout(self.spec.start_deadline_s):
                await self._until_ready(self._child)
        except TimeoutError:
            await self._end(signal.SIGKILL, self.spec.stop_deadline_s)
            raise self._not_started(
                f"it was not ready after {self.spec.start_deadline_s:.0f} s"
            ) from None
        seconds = asyncio.get_running_loop().time() - started_s
        self._report(Progress(self.spec.name, True, self.spec.address, seconds))

    async def _until_ready(self, child: asyncio.subprocess.Process) -> None:
        # A stranger may answer on the child's port, so an answer counts only from its owner.
        while not (await self.spec.is_ready() and owns_port(child.pid, self.spec.port)):
            if child.returncode is not None:
                raise self._not_started(f"it ended with code {child.returncode}")
            await asyncio.sleep(PROBE_INTERVAL_S)

    async def _keep_alive(self) -> None:
        failures = 0
        loop = asyncio.get_running_loop()
        while True:
            ready_s = loop.time()
            assert self._child is not None
            code = await self._child.wait()
            failures = 1 if loop.time() - ready_s > STABLE_AFTER_S else failures + 1
            delay_s = restart_delay_s(failures)
            self._fail(f"ended with code {code}; restart in {delay_s:.1f} s")
            await asyncio.sleep(delay_s)
            self.restarts += 1
            try:
                await self._launch()
            except StackError as problem:
                self._fail(problem.why)

    async def _end(self, first_signal: signal.Signals, deadline_s: float) -> None:
        if self._child is None:
            return
        self._signal(first_signal)
        try:
            async with asyncio.timeout(deadline_s):
                await self._child.wait()
        except TimeoutError:
            self._fail(f"did not stop in {deadline_s:.0f} s; killed")
            self._signal(signal.SIGKILL)
            await self._child.wait()

    def _signal(self, number: signal.Signals) -> None:
        if self.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, number)

    def _fail(self, text: str) -> None:
        self._report(Progress(self.spec.name, False, text))

    def _not_started(self, why: str) -> StackError:
        said = last_words(self.spec.log_path)
        return StackError(
            f"{self.spec.name} did not start",
            f"{why}; its last words: {said}" if said else why,
            f"read {self.spec.log_path}",
        )


async def output_of(child: asyncio.subprocess.Process, within_s: float) -> tuple[bytes, bytes]:
    """What a child prints until it ends, and what it says beside; one that takes longer is killed.

    Raises TimeoutError, or goes on with a cancellation, when the child is gone.
    """
    try:
        async with asyncio.timeout(within_s):
            return await child.communicate()
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()


async def _keep_bounded(log_path: Path) -> None:
    """For ever. Copying takes some milliseconds, and a disk that hangs longer."""
    while True:
        await asyncio.sleep(CHECK_PERIOD_S)
        # A disk that cannot be written now may be later; the child is not to blame.
        with contextlib.suppress(OSError):
            await asyncio.to_thread(bound_log, log_path)


async def _spawn(spec: ProcessSpec) -> asyncio.subprocess.Process:
    bound_log(spec.log_path)
    with spec.log_path.open("ab") as log:
        return await asyncio.create_subprocess_exec(
            *spec.argv,
            env=dict(spec.environment),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=asyncio.subprocess.STDOUT,
            process_group=0,
            preexec_fn=_die_with_parent(),
        )


def _die_with_parent() -> Callable[[], None] | None:
    """What the child runs before exec so that the kernel kills it when we die; Linux only."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    parent = os.getpid()

    def bind() -> None:
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        # The parent may have died between fork and prctl; then nobody would kill us.
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)

    return bind


async def together(*starting: Coroutine[None, None, None]) -> None:
    """All at once; the first failure ends the others."""
    try:
        async with asyncio.TaskGroup() as group:
            for each in starting:
                group.create_task(each)
    except ExceptionGroup as failures:
        # The first failure tells the story; the others are usually its consequences.
        raise failures.exceptions[0] from None
