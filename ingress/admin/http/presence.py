"""Ends work for a client that has left."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

_CLIENT_CLOSED_REQUEST = 499


async def while_present(request: Request, work: Coroutine[Any, Any, Response]) -> Response:
    """The response that the work makes; when the client leaves before that, the work is cancelled."""
    working = asyncio.create_task(work)
    leaving = asyncio.create_task(_left(request))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        return Response(status_code=_CLIENT_CLOSED_REQUEST)
    finally:
        working.cancel()
        leaving.cancel()
        await asyncio.wait({working, leaving})


async def _left(request: Request) -> None:
    """Return when the client is gone; its body, if any, was read or is not wanted."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
