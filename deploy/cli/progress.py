"""Bars for what takes long, on stderr and only on a terminal; they leave nothing behind."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn


@contextmanager
def waiting(what: str, console: Console) -> Iterator[None]:
    """A bar that moves without saying how far, and the time that has passed."""
    text = TextColumn("{task.description}", markup=False)
    with Progress(text, BarColumn(), TimeElapsedColumn(), console=console, transient=True) as bar:
        bar.add_task(what, total=None)
        yield
