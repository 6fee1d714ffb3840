"""A uvicorn server as a part of a process: the composition root takes it down, among other parts."""

from __future__ import annotations

import asyncio
import contextlib
from abc import abstractmethod
from collections.abc import Callable, Generator
from typing import Any, Final

import uvicorn
from starlette.types import ASGIApp

_TICKS_PER_SWEEP: Final = 10
"""Uvicorn ticks ten times a second."""


def server_config(
    app: ASGIApp,
    host: str,
    port: int,
    http: Callable[..., asyncio.Protocol],
    shutdown_within_s: int,
    **more: Any,
) -> uvicorn.Config:
    """The configuration of a server of ours: it logs nothing, says nothing of itself, and believes no proxy."""
    return uvicorn.Config(
        app,
        host=host,
        port=port,
        http=http,  # type: ignore[arg-type]  # uvicorn takes whatever makes protocols
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=shutdown_within_s,
        **more,
    )


class HttpServer(uvicorn.Server):
    """A server that leaves signals to the process, which has more than a server to take down."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Capture none."""
        yield

    async def on_tick(self, counter: int) -> bool:
        """Look at all connections once a second, whatever else uvicorn does then."""
        if counter % _TICKS_PER_SWEEP == 0:
            self.sweep(asyncio.get_running_loop().time())
        return await super().on_tick(counter)

    @abstractmethod
    def sweep(self, now_s: float) -> None:
        """End the connections whose time is over; called once a second."""
