"""Holds processes to a share of a core: by the kernel's CPU quota where this user may set one, else by stopping them.

A control group's quota (version 2 or 1) is exact and costs nothing. Without the right to it a thread stops each
process (SIGSTOP) once it had its share of a period and lets it go on (SIGCONT) in the next, as cpulimit does.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Final

from deploy.bench.process_cost import read_processes

PERIOD_S: Final = 0.1
_STEP_S: Final = 0.005
_ROOT: Final = Path("/sys/fs/cgroup")
_CONTROLLERS: Final = ("cgroup.controllers", "cgroup.subtree_control")


@contextmanager
def held(pids: Iterable[int], share: float) -> Iterator[str]:
    """Each of the processes has at most that share of a core; gives how. They are free again when the block is left."""
    known = list(pids)
    with ExitStack() as stack:
        try:
            for pid in known:
                stack.enter_context(_group(pid, share))
            yield "CPU quotas of control groups"
            return
        except OSError:
            stack.close()
        with _stopping(known, share):
            yield "SIGSTOP and SIGCONT"


@contextmanager
def _group(pid: int, share: float) -> Iterator[None]:
    """A control group of one process. Raises ``OSError`` where this user may not make one."""
    period_us = round(PERIOD_S * 1_000_000)
    quota_us = round(share * period_us)
    is_v2 = all((_ROOT / name).exists() for name in _CONTROLLERS)
    parent = _ROOT if is_v2 else _ROOT / "cpu"
    if not parent.is_dir():
        raise FileNotFoundError(parent)
    group = parent / f"tallygate-{pid}"
    group.mkdir()
    try:
        if is_v2:
            (group / "cpu.max").write_text(f"{quota_us} {period_us}")
        else:
            (group / "cpu.cfs_period_us").write_text(str(period_us))
            (group / "cpu.cfs_quota_us").write_text(str(quota_us))
        (group / "cgroup.procs").write_text(str(pid))
        yield
    finally:
        # A process that is gone has left its group by itself.
        with suppress(OSError):
            (parent / "cgroup.procs").write_text(str(pid))
        group.rmdir()


@contextmanager
def _stopping(pids: list[int], share: float) -> Iterator[None]:
    ended = threading.Event()
    threads = [threading.Thread(target=_hold, args=(pid, share, ended)) for pid in pids]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        ended.set()
        for thread in threads:
            thread.join()


def _hold(pid: int, share: float, ended: threading.Event) -> None:
    while not ended.is_set() and (used_s := _used_s(pid)) is not None:
        until_s = time.monotonic() + PERIOD_S
        is_stopped = False
        while time.monotonic() < until_s and not ended.wait(_STEP_S):
            if not is_stopped and (_used_s(pid) or 0.0) - used_s >= share * PERIOD_S:
                is_stopped = _signal(pid, signal.SIGSTOP)
        if is_stopped:
            _signal(pid, signal.SIGCONT)


def _used_s(pid: int) -> float | None:
    found = read_processes({"it": pid})
    return found["it"].cpu_s if found else None


def _signal(pid: int, number: signal.Signals) -> bool:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True
