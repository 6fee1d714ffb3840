"""Tells what the kernel knows of a connection: which of our bytes the peer has, and that it spoke or hung up.

Source: Linux, include/uapi/linux/tcp.h, struct tcp_info; a FIN counts as one received byte. Other systems tell nothing.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import Final, NamedTuple

__all__ = ["PeerBytes", "peer_bytes"]

_TCP_INFO: Final = getattr(socket, "TCP_INFO", None)
_TOLD: Final = struct.Struct("=B119xQQ")
"""State, bytes of ours that were acknowledged, bytes of theirs that came."""
_ESTABLISHED: Final = 1


class PeerBytes(NamedTuple):
    """What came to pass between two kernels."""

    is_open: bool
    """Whether the peer has not hung up."""
    acknowledged: int
    received: int

    def shows_unread(self, before: PeerBytes) -> bool:
        """Whether the peer spoke or hung up since ``before`` without having any byte that was sent since: it had closed
        before it could read. A peer that has something acknowledges it with whatever it sends."""
        return self.acknowledged == before.acknowledged and self.received > before.received


def peer_bytes(transport: asyncio.BaseTransport | None) -> PeerBytes | None:
    """What the kernel knows by now; ``None`` where it tells nothing."""
    connection = None if transport is None else transport.get_extra_info("socket")
    if connection is None or _TCP_INFO is None:
        return None
    try:
        told = connection.getsockopt(socket.IPPROTO_TCP, _TCP_INFO, _TOLD.size)
    except OSError:
        return None
    if len(told) < _TOLD.size:
        return None
    state, acknowledged, received = _TOLD.unpack(told)
    return PeerBytes(state == _ESTABLISHED, acknowledged, received)
