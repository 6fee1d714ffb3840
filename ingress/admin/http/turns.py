"""Turns of searches: each holds what a broker sends it, so only a few run at once in this process.

Whoever comes then waits for a moment, and is told that others search before it would have to wait for long.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ingress.admin.http.refusal import Refusal, problem_response
from schemas.errors import ErrorCode

AT_ONCE: Final = 4
_WAIT_S: Final = 5.0

Handler: TypeAlias = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Turns:
    """The turns of one process."""

    _free: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))

    def of(self, routes: Iterable[Route]) -> list[Route]:
        """The routes, each of whose requests waits for its turn."""
        return [Route(r.path, self._waiting(r.endpoint), methods=r.methods) for r in routes]

    def _waiting(self, search: Handler) -> Handler:
        async def search_in_turn(request: Request) -> Response:
            try:
                await asyncio.wait_for(self._free.acquire(), _WAIT_S)
            except TimeoutError:
                detail = (
                    f"{AT_ONCE} other searches run, and none of them ended within {_WAIT_S:.0f} s"
                )
                return problem_response(Refusal(ErrorCode.SERVICE_UNAVAILABLE, detail))
            try:
                return await search(request)
            finally:
                self._free.release()

        return search_in_turn
