"""Only a few searches run at once, and nobody waits for long without being told."""

from __future__ import annotations

import asyncio

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route, Router

from ingress.admin.http import turns


async def test_searches_beyond_the_bound_wait_and_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A turn that ends, or breaks off, is given away."""
    monkeypatch.setattr(turns, "_WAIT_S", 0.05)
    running, may_end = 0, asyncio.Event()

    async def search(request: Request) -> Response:
        nonlocal running
        running += 1
        await may_end.wait()
        if request.query_params:
            raise RuntimeError
        return PlainTextResponse("found")

    app = Router(turns.Turns().of([Route("/search", search)]))
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        held = [asyncio.create_task(client.get("/search?fails")) for _ in range(turns.AT_ONCE)]
        async with asyncio.timeout(5):
            while running < turns.AT_ONCE:  # noqa: ASYNC110
                await asyncio.sleep(0)
        refused = await client.get("/search")
        most = running
        may_end.set()
        await asyncio.gather(*held)
        served = await client.get("/search")

    assert (refused.status_code, most) == (503, turns.AT_ONCE)
    assert "other searches run" in refused.json()["detail"]
    assert served.text == "found"
