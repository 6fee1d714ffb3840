"""Keeps connections alive on which nothing is said: who waits for a flex answer may wait for hours.

The listening socket is told so, and connections have it from there (Linux, BSD): nothing is done for each.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable
from typing import Any, Final

__all__ = ["keep_alive"]

IDLE_S: Final = 60
"""Below what common proxies, load balancers and address translators forget a silent connection after."""
_EVERY_S: Final = 30
_TRIES: Final = 4
_TIMES: Final = (("TCP_KEEPIDLE", IDLE_S), ("TCP_KEEPINTVL", _EVERY_S), ("TCP_KEEPCNT", _TRIES))


def keep_alive(listening: Iterable[Any]) -> None:
    """Have the connections of these sockets probed while they are silent, so that both ends and what is between see that
    they live, or that they do not."""
    for each in listening:
        # The event loop's own has no options; another descriptor of the same socket has.
        with socket.socket(fileno=os.dup(each.fileno())) as same:
            if same.family in (socket.AF_INET, socket.AF_INET6):
                same.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
                for name, value in _TIMES:
                    if (option := getattr(socket, name, None)) is not None:
                        same.setsockopt(socket.IPPROTO_TCP, option, value)
