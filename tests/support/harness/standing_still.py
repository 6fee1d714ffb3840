"""Processes that are there and do nothing."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def standing_still(*pids: int) -> Iterator[None]:
    """They are stopped (SIGSTOP), and go on when the block is left."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
