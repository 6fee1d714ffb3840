"""Bars for what takes long, on stderr and only on a terminal; they leave nothing behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Timer

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

DELAY_S = 1.0
"""What is done by then needs no bar."""


@contextmanager
def bar(
    what: str, total: int | None, console: Console, delay_s: float = DELAY_S
) -> Iterator[Callable[[], None]]:
    """A bar with the time so far, and the call that moves it on by one.

    Without a total it only shows that something goes on.
    """
    columns = [TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn()]
    if total is not None:
        columns.append(MofNCompleteColumn())
    progress = Progress(*columns, console=console, transient=True)
    task = progress.add_task(what, total=total)
    later = Timer(delay_s, progress.start)
    later.daemon = True
    later.start()
    try:
        yield lambda: progress.advance(task)
    finally:
        # Once it was waited for, it has started the bar or never will.
        later.cancel()
        later.join()
        progress.stop()
