"""The garbage collector's part: to look for cycles seldom, and never among what a process is made of.

Almost everything here is freed by its reference count. What was imported lives as long as the process;
looking through it with each full collection was a tenth of its time.
"""

from __future__ import annotations

import gc
from typing import Final

__all__ = ["calm_collector"]

_YOUNG: Final = 10_000
"""Containers allocated and not freed between two collections; CPython says 700."""


def calm_collector() -> None:
    """Once all is imported: leave that alone, and look for cycles of what comes later less often."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG, 10, 10)
