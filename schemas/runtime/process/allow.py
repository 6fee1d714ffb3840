"""Tells which methods a path takes, over all routes that it matches: the framework names those of the first (RFC 9110, section 10.2.1)."""

from __future__ import annotations

from collections.abc import Iterable

from starlette.routing import BaseRoute, Match, Route
from starlette.types import Scope

__all__ = ["allow_header"]


def allow_header(routes: Iterable[BaseRoute], scope: Scope) -> str:
    """The value of ``Allow`` in the refusal of a method that the path does not take."""
    methods: set[str] = set()
    for route in routes:
        if isinstance(route, Route) and route.matches(scope)[0] is Match.PARTIAL:
            methods |= route.methods or set()
    return ", ".join(sorted(methods))
