"""Connects to backends: a name is looked up once for all that wait, its addresses are tried side by side (RFC 8305),
and a certificate has to be valid for the name (RFC 9110, 4.3.4).

The environment's proxies are not asked. A name with several addresses gets its calls spread over them.
"""

from __future__ import annotations

import asyncio
import functools
import ipaddress
import socket
import ssl
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import aiohappyeyeballs

from dispatcher.upstream.target import Origin
from schemas.failures import Transient

if TYPE_CHECKING:
    from dispatcher.upstream.connections import Connection

__all__ = ["CONNECT_S_MAX", "Connecting", "Unreachable", "tls_context"]

CONNECT_S_MAX: Final = 5.0
"""Look-up, connection and handshake together."""
_KNOWN_S: Final = 10.0
"""How long a look-up counts."""
_NEXT_ADDRESS_S: Final = 0.25
"""RFC 8305's delay before another address is tried beside the first."""

Address = tuple[int, int, int, str, tuple[Any, ...]]
"""As ``getaddrinfo`` gives it."""


class Unreachable(Transient):
    """No connection could be made, so that no backend has seen anything of the call."""


@functools.cache
def tls_context() -> ssl.SSLContext:
    """Checks certificates against those of the system, or of ``SSL_CERT_FILE``, read once; only HTTP/1.1 is offered."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context


@dataclass(slots=True)
class _Known:
    """The addresses of one name."""

    until_s: float
    addresses: deque[Address]


@dataclass(slots=True)
class Connecting:
    """Makes connections."""

    tls: ssl.SSLContext
    _known: dict[Origin, _Known] = field(default_factory=dict)
    _lookups: dict[Origin, asyncio.Task[deque[Address]]] = field(default_factory=dict)

    async def connect(self, origin: Origin, make: Callable[[], Connection]) -> Connection:
        """A connection, through its handshake. Raises ``Unreachable``."""
        try:
            async with asyncio.timeout(CONNECT_S_MAX):
                addresses = await self._addresses(origin)
                while True:
                    try:
                        return await self._connect(origin, addresses, make)
                    except OSError:
                        # A handshake that fails at one address may not at another.
                        aiohappyeyeballs.pop_addr_infos_interleave(addresses, 1)
                        if not addresses:
                            raise
        except (OSError, RuntimeError) as error:  # uvloop raises the latter for some of the former
            raise Unreachable(type(error).__name__) from error

    async def _connect(
        self, origin: Origin, addresses: list[Address], make: Callable[[], Connection]
    ) -> Connection:
        loop = asyncio.get_running_loop()
        own = await aiohappyeyeballs.start_connection(
            addresses, happy_eyeballs_delay=_NEXT_ADDRESS_S, interleave=1, loop=loop
        )
        context = self.tls if origin.is_tls else None
        # Certificates name hosts without the dot of a fully qualified name.
        name = origin.host.rstrip(".") if origin.is_tls else None
        _, made = await loop.create_connection(make, sock=own, ssl=context, server_hostname=name)
        return made

    async def _addresses(self, origin: Origin) -> list[Address]:
        """Where the origin is, the next one first each time."""
        if (literal := _literal(origin)) is not None:
            return [literal]
        now_s = asyncio.get_running_loop().time()
        known = self._known.get(origin)
        if known is None or known.until_s <= now_s:
            # One caller's cancellation must not end it for the others.
            found = await asyncio.shield(self._lookup(origin))
            known = self._known.get(origin) or _Known(0.0, found)
        addresses = list(known.addresses)
        known.addresses.rotate(-1)
        return addresses

    def _lookup(self, origin: Origin) -> asyncio.Task[deque[Address]]:
        task = self._lookups.get(origin)
        if task is None:
            task = self._lookups[origin] = asyncio.create_task(self._look_up(origin))
            task.add_done_callback(lambda done: self._looked_up(origin, done))
        return task

    async def _look_up(self, origin: Origin) -> deque[Address]:
        found = await asyncio.get_running_loop().getaddrinfo(
            origin.host, origin.port, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG
        )
        return deque(found)

    def _looked_up(self, origin: Origin, done: asyncio.Task[deque[Address]]) -> None:
        now_s = asyncio.get_running_loop().time()
        self._lookups.pop(origin, None)
        self._known = {each: known for each, known in self._known.items() if known.until_s > now_s}
        if not done.cancelled() and done.exception() is None and done.result():
            self._known[origin] = _Known(now_s + _KNOWN_S, done.result())


def _literal(origin: Origin) -> Address | None:
    try:
        address = ipaddress.ip_address(origin.host)
    except ValueError:
        return None
    kind, place = socket.SOCK_STREAM, (origin.host, origin.port)
    if address.version == 4:  # noqa: PLR2004  # of IP
        return (socket.AF_INET, kind, socket.IPPROTO_TCP, "", place)
    return (socket.AF_INET6, kind, socket.IPPROTO_TCP, "", (*place, 0, 0))
