"""What functions of ours remember: the entries of their caches. What comes with every request must not grow one."""

from __future__ import annotations

import sys
from functools import _lru_cache_wrapper

_OURS = ("accounting", "dispatcher", "ingress", "limiter_worker", "schemas")


def remembered() -> dict[str, int]:
    """How many entries each cache has, by the name of its function; of modules that are loaded."""
    modules = [m for name, m in sys.modules.items() if name.partition(".")[0] in _OURS]
    caches = {
        found
        for m in modules
        for found in vars(m).values()
        if isinstance(found, _lru_cache_wrapper)
    }
    return {f"{each.__module__}.{each.__qualname__}": each.cache_info().currsize for each in caches}


def grown(before: dict[str, int]) -> dict[str, int]:
    """By how many entries each cache has grown since; those that have not are left out."""
    return {
        name: size - before.get(name, 0)
        for name, size in remembered().items()
        if size > before.get(name, 0)
    }
