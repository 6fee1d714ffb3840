"""What the kernel tells of a connection proves that the peer has read nothing, or it does not."""

from __future__ import annotations

import asyncio

import pytest

from dispatcher.upstream import peer_bytes as kernel
from dispatcher.upstream.peer_bytes import PeerBytes, peer_bytes

BEFORE = PeerBytes(is_open=True, acknowledged=100, received=50)


@pytest.mark.parametrize(
    ("acknowledged", "received", "shown"),
    [(100, 51, True), (100, 82, True), (100, 50, False), (101, 51, False), (101, 50, False)],
    ids=["hung up", "said goodbye in TLS", "reset", "hung up later", "has a byte"],
)
def test_a_peer_that_hung_up_without_a_byte_of_ours_has_read_nothing(
    acknowledged: int, received: int, shown: bool
) -> None:
    """A reset alone proves nothing: the acknowledgement may be under way."""
    assert PeerBytes(False, acknowledged, received).shows_unread(BEFORE) is shown


async def test_the_kernel_tells_of_a_connection_what_it_knows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And nothing of none, or where it has no word for it."""
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    async with server:
        _, writer = await asyncio.open_connection(*server.sockets[0].getsockname()[:2])
        known = peer_bytes(writer.transport)
        assert known is not None
        assert known.acknowledged <= 1
        monkeypatch.setattr(kernel, "_TCP_INFO", None)
        assert peer_bytes(writer.transport) is None
        writer.close()
    assert peer_bytes(None) is None
