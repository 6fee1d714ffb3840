"""Bars for what takes long, on stderr and only on a terminal; they leave nothing behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Thread, Timer

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

DELAY_S = 1.0
"""What is done by then needs no bar."""
_ASK_EVERY_S = 0.5
_LEFT_WITHIN_S = 0.2


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


@contextmanager
def measured_bar(
    what: str,
    measure: Callable[[], tuple[int, int] | None],
    console: Console,
    delay_s: float = DELAY_S,
) -> Iterator[None]:
    """A bar that is as far as ``measure`` says, which is asked from a thread: done, of how many."""
    columns = [TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn()]
    progress = Progress(*columns, MofNCompleteColumn(), console=console, transient=True)
    task = progress.add_task(what, total=None)
    has_ended = Event()

    def watch() -> None:
        if has_ended.wait(delay_s):
            return
        progress.start()
        while not has_ended.wait(_ASK_EVERY_S):
            if (measured := measure()) is not None:
                progress.update(task, completed=measured[0], total=measured[1])

    watching = Thread(target=watch, daemon=True)
    watching.start()
    try:
        yield
    finally:
        has_ended.set()
        # It has started the bar by then or never will; an answer that it waits for is of no use any more.
        watching.join(timeout=_LEFT_WITHIN_S)
        progress.stop()
