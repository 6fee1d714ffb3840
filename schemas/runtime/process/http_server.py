"""A uvicorn server as a part of a process: the composition root takes it down, among other parts."""

from __future__ import annotations

import contextlib
from collections.abc import Generator

import uvicorn


class HttpServer(uvicorn.Server):
    """A server that leaves signals to the process, which has more than a server to take down."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Capture none."""
        yield
