"""Connections on which nothing is said for hours are kept alive, at no cost for each."""

from __future__ import annotations

import asyncio
import socket

import pytest
import uvloop

from ingress.http.keep_alive import IDLE_S, keep_alive


async def _options_of_a_connection(*, is_kept: bool) -> tuple[int, int]:
    """Whether a connection that was accepted is probed, and after how long a silence."""
    told: asyncio.Future[tuple[int, int]] = asyncio.get_running_loop().create_future()

    def accepted(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = writer.get_extra_info("socket")
        is_probed = connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        idle_s = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE)
        told.set_result((is_probed, idle_s))
        writer.close()

    async with await asyncio.start_server(accepted, "127.0.0.1", 0) as server:
        if is_kept:
            keep_alive(server.sockets)
        port = server.sockets[0].getsockname()[1]
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        found = await told
        writer.close()
    return found


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_what_is_accepted_is_probed_while_it_is_silent(run: object) -> None:
    """On either event loop."""
    assert callable(run)

    assert run(_options_of_a_connection(is_kept=True)) == (1, IDLE_S)
    assert run(_options_of_a_connection(is_kept=False))[0] == 0
