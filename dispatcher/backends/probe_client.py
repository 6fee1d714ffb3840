"""Asks one backend whether it lives: on a connection of its own, and whatever the backend sends.

The calls' client is not used: a probe has no body, is never in a hurry, and must not hold a connection
that a call could have. Redirects, proxies, cookies and compression are off. What may be read of an answer is
bounded in bytes and time, since neither heads nor interim answers are bounded by the library.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Iterator, Mapping
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any, Final, NamedTuple

import httpcore
import httpx

from dispatcher.upstream.target import target
from schemas.entities import Backend

__all__ = ["Probe", "ProbeClient"]

_WITHIN_S: Final = 2.0
_SERVER_ERROR: Final = 500
ANSWER_BYTES_MAX: Final = 16 * 1024
"""Of all heads together, as of a request's in ingress; the body is not read."""


_WHY: Final[tuple[tuple[type[BaseException], str], ...]] = (
    (socket.gaierror, "no such host"),
    (ssl.SSLCertVerificationError, "its certificate is not trusted"),
    (ssl.SSLError, "no TLS there"),
    (ConnectionRefusedError, "connection refused"),
)
"""What an operator looks for in another place each; all else is called by its type."""


class Probe(NamedTuple):
    """What one probe came to."""

    said: str
    """Its status, or what came instead of one."""
    is_alive: bool


class ProbeClient:
    """The HTTP client of probes."""

    def __init__(self, authorization: Callable[[Backend], Mapping[str, str]]) -> None:
        self._authorization = authorization
        self._client: httpx.AsyncClient | None = None

    async def start(self) -> None:
        """Make ready; nothing is connected yet."""
        transport = httpx.AsyncHTTPTransport()
        # The library takes no network of one's own but here.
        transport._pool = httpcore.AsyncConnectionPool(  # noqa: SLF001
            ssl_context=ssl.create_default_context(),
            network_backend=_BoundedNetwork(),
            # How many are under way is for who asks; ten of the library's would be held by backends that hang,
            # and all others, waiting for one of those, would pass for dead.
            max_connections=None,
        )
        jar = CookieJar(DefaultCookiePolicy(allowed_domains=()))
        self._client = httpx.AsyncClient(transport=transport, cookies=jar, trust_env=False)

    async def stop(self) -> None:
        """Close what is open."""
        if self._client is not None:
            await self._client.aclose()

    async def probe(self, backend: Backend) -> Probe:
        """What a backend says that is asked for its models.

        Any status below 500 within 2 s counts as life: a server without that list, or that wants a key
        for it, lives. Never raises.
        """
        assert self._client is not None, "start() comes first"
        headers = {"accept-encoding": "identity", "connection": "close"}
        try:
            async with asyncio.timeout(_WITHIN_S):
                headers |= self._authorization(backend)
                url = str(target(backend.url, "models"))
                async with self._client.stream("GET", url, headers=headers) as answer:
                    status = answer.status_code
            return Probe(f"status {status}", is_alive=status < _SERVER_ERROR)
        except Exception as error:  # noqa: BLE001  # one backend, whatever it is or sends, is unhealthy
            return Probe(_why(error), is_alive=False)


def _why(error: Exception) -> str:
    causes = list(_causes(error))
    known = (text for kind, text in _WHY for cause in causes if isinstance(cause, kind))
    return next(known, type(error).__name__)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error and what led to it, as libraries wrap it."""
    while error is not None:
        yield error
        if isinstance(error, BaseExceptionGroup):
            yield from error.exceptions
        error = error.__cause__ or error.__context__


class _BoundedNetwork(httpcore.AsyncNetworkBackend):
    """Connections on which only so much can be read."""

    def __init__(self) -> None:
        self._network = httpcore.AnyIOBackend()

    async def connect_tcp(self, *args: Any, **more: Any) -> httpcore.AsyncNetworkStream:
        return _BoundedStream(await self._network.connect_tcp(*args, **more))

    async def sleep(self, seconds: float) -> None:
        await self._network.sleep(seconds)


class _BoundedStream(httpcore.AsyncNetworkStream):
    """One connection."""

    def __init__(self, stream: httpcore.AsyncNetworkStream) -> None:
        self._stream = stream
        self._left_bytes = ANSWER_BYTES_MAX

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109
        if self._left_bytes <= 0:
            raise httpcore.ReadError("an answer of too many bytes")
        data = await self._stream.read(min(max_bytes, self._left_bytes), timeout)
        self._left_bytes -= len(data)
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109
        await self._stream.write(buffer, timeout)

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> httpcore.AsyncNetworkStream:
        return _BoundedStream(await self._stream.start_tls(ssl_context, server_hostname, timeout))

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)
