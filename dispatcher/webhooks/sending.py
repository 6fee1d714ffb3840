"""Sends one message to one address: looked up once, connected to the address that was judged, answered within bounds.

Nothing is followed and nothing of an answer is kept but its status. Names are looked up by threads of their own, so that
a resolver that hangs holds up no call of a backend; a name is looked up by one of them at a time.
"""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

from yarl import URL

from schemas.failures import Poison, Transient
from schemas.networks import Address, address_in, is_inside, is_public

__all__ = ["SEND_S_MAX", "Answer", "Sender"]

SEND_S_MAX: Final = 15.0
"""Look-up, connection, handshake and status together."""
_LOOKUP_THREADS: Final = 16
_ADDRESSES_TRIED: Final = 2
_LINE_BYTES_MAX: Final = 8 * 1024
_LINES_MAX: Final = 128
"""Of interim answers and the status line."""
_STATUS: Final = re.compile(rb"HTTP/1\.[01] ([1-5][0-9]{2})(?: [^\r\n]*)?\r?\n")
_INTERIM: Final = range(100, 200)
_TAKEN: Final = range(200, 300)
_GONE: Final = 410

_WHY: Final[tuple[tuple[type[BaseException], str], ...]] = (
    (TimeoutError, "no answer in time"),
    (socket.gaierror, "no such host"),
    (ssl.SSLCertVerificationError, "its certificate is not trusted"),
    (ssl.SSLError, "no TLS there"),
    (ConnectionRefusedError, "connection refused"),
    (asyncio.IncompleteReadError, "it closed the connection"),
    (ConnectionError, "it closed the connection"),
)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of a try."""

    said: str
    is_taken: bool = False
    """Whether the receiver has it: any status of 200 to 299."""
    is_final: bool = False
    """Whether it asked for nothing more (410), or nobody may call it."""


class _Forbidden(Poison):
    """An address that webhooks do not go to."""


class _NoHttp(Transient):
    """What came is no answer of HTTP/1."""


@dataclass(slots=True)
class Sender:
    """Sends over a connection for each message."""

    tls: ssl.SSLContext
    private: tuple[str, ...]
    """Networks that may be called although they are not public."""
    _threads: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(_LOOKUP_THREADS, "webhook-names")
    )
    _lookups: dict[tuple[str, int], asyncio.Future[Sequence[Address]]] = field(default_factory=dict)

    async def send(self, url: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """Post the body; whatever the other side is or does, there is an answer within ``SEND_S_MAX``."""
        try:
            async with asyncio.timeout(SEND_S_MAX):
                status = await self._post(URL(url), headers, body)
        except _Forbidden as error:
            return Answer(str(error), is_final=True)
        except Exception as error:  # noqa: BLE001  # one receiver, whatever it is or sends, costs its own delivery
            return Answer(_why(error))
        return Answer(f"status {status}", status in _TAKEN, status == _GONE)

    def close(self) -> None:
        """Look up nothing more."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _post(self, url: URL, headers: Mapping[str, str], body: bytes) -> int:
        host, port = url.raw_host, url.port
        if host is None or port is None:
            raise ValueError("no URL of a server")
        addresses = [each for each in await self._addresses(host, port) if self._is_allowed(each)]
        if not addresses:
            raise _Forbidden(f"{host} has no address that webhooks may go to")
        is_tls = url.scheme == "https"
        if not is_tls:
            addresses = [each for each in addresses if is_inside(each, self.private)]
            if not addresses:
                raise _Forbidden("webhooks go to public addresses over TLS only")
        reader, writer = await self._connect(
            addresses[:_ADDRESSES_TRIED], host, port, is_tls=is_tls
        )
        try:
            writer.write(_head(url, headers, len(body)) + body)
            await writer.drain()
            return await _status(reader)
        finally:
            writer.transport.abort()

    async def _connect(
        self, addresses: Sequence[Address], host: str, port: int, *, is_tls: bool
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """To the first that takes the connection. Raises what the last one met."""
        context = self.tls if is_tls else None
        name = host.rstrip(".") if is_tls else None
        for left, address in zip(range(len(addresses))[::-1], addresses, strict=True):
            try:
                return await asyncio.open_connection(
                    str(address), port, ssl=context, server_hostname=name, limit=_LINE_BYTES_MAX
                )
            except OSError:
                if not left:
                    raise
        raise AssertionError("there is an address")

    def _is_allowed(self, address: Address) -> bool:
        return is_public(address) or is_inside(address, self.private)

    async def _addresses(self, host: str, port: int) -> Sequence[Address]:
        """Where a host is; one that is an address is asked of nobody."""
        literal = address_in(host)
        if literal is not None:
            return (literal,)
        looking = self._lookups.get((host, port))
        if looking is None:
            loop = asyncio.get_running_loop()
            looking = loop.run_in_executor(self._threads, _look_up, host, port)
            self._lookups[host, port] = looking
            looking.add_done_callback(lambda done: self._looked_up(host, port, done))
        return await asyncio.shield(looking)

    def _looked_up(self, host: str, port: int, done: asyncio.Future[Sequence[Address]]) -> None:
        del self._lookups[host, port]
        if not done.cancelled():
            done.exception()  # Whoever waited has it; nobody has to.


def _look_up(host: str, port: int) -> Sequence[Address]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
    addresses = (address_in(str(place[0])) for *_, place in found)
    return tuple(dict.fromkeys(each for each in addresses if each is not None))


def _head(url: URL, headers: Mapping[str, str], body_bytes: int) -> bytes:
    """The head of the call. Raises ``ValueError`` for what is no ASCII."""
    lines = [
        f"POST {url.raw_path_qs} HTTP/1.1",
        f"Host: {url.host_port_subcomponent}",
        "Content-Type: application/json",
        f"Content-Length: {body_bytes}",
        "User-Agent: tallygate",
        "Connection: close",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("ascii")


async def _status(reader: asyncio.StreamReader) -> int:
    """The status of the answer behind interim ones, of so many lines at most."""
    is_first = True
    for _ in range(_LINES_MAX):
        line = await reader.readuntil(b"\n")
        if not is_first:
            # What an interim answer says beside its status.
            is_first = not line.strip()
            continue
        status = _STATUS.fullmatch(line)
        if status is None:
            raise _NoHttp
        if int(status[1]) not in _INTERIM:
            return int(status[1])
        is_first = False
    raise _NoHttp


def _why(error: Exception) -> str:
    return next((text for kind, text in _WHY if isinstance(error, kind)), "no HTTP there")
