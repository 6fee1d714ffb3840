"""Calls backends over HTTP. What goes wrong before the answer is one ``UpstreamFailure``; so is a broken
connection in it.

Connections are kept; cookies, redirects, proxies and compression are off; a client's own headers never
reach a backend. Every answer is read within bounds (``connections``, ``_BODY_BYTES_MAX``).
"""

from __future__ import annotations

import asyncio
import functools
import re
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Final

import aiohttp
from yarl import URL

from dispatcher.upstream import foreign
from dispatcher.upstream.connections import HEADERS_MAX, LINE_BYTES_MAX, Connections
from dispatcher.upstream.upstream_failure import UpstreamFailure, refusal
from dispatcher.work import Choice
from schemas.backend_url import operation_url
from schemas.entities import Backend
from schemas.errors import ErrorCode
from schemas.failures import Poison
from schemas.log_events import LogEvent
from schemas.operations import Operation, UpstreamProtocol
from schemas.runtime.process.clock import Clock
from schemas.runtime.process.event_log import EventLog

_LOG = EventLog(__name__)

_PROTOCOL: Final[UpstreamProtocol] = "openai"
"""What all backends speak."""
_CONNECT_TIMEOUT_S: Final = 5.0
_BODY_BYTES_MAX: Final = 16 * 1024 * 1024
_ERROR_BYTES_MAX: Final = 64 * 1024
_ERROR_MAX_S: Final = 0.5
"""The status of a refusal says enough; its body may take this long."""
_HOST: Final = re.compile(r"[A-Za-z0-9._:%-]{1,253}")


class Uncallable(Poison):
    """No request can be made to a backend as it is configured: its URL or its key is unusable."""


@dataclass(slots=True)
class Upstreams:
    """The HTTP client of the dispatcher."""

    api_keys: Mapping[str, str]
    """Environment variable to secret, as named by the backends' entries."""
    clock: Clock
    logs_texts: bool = False
    """Whether what backends say may stand in our logs."""
    _session: aiohttp.ClientSession | None = None
    _told: set[str] = field(default_factory=set)
    """Variables whose keys were already called unusable."""

    async def start(self) -> None:
        """Open the connection pool."""
        self._session = aiohttp.ClientSession(
            connector=Connections(),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(
                total=None, connect=_CONNECT_TIMEOUT_S, sock_connect=_CONNECT_TIMEOUT_S
            ),
            auto_decompress=False,
            max_line_size=LINE_BYTES_MAX,
            max_field_size=LINE_BYTES_MAX,
            max_headers=HEADERS_MAX,
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding"),
        )

    async def stop(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()

    @asynccontextmanager
    async def call(
        self, choice: Choice, operation: Operation, body: bytes, request_id: str
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """The backend's answer to a call of the operation, status 200 checked, body not yet read.

        Raises ``UpstreamFailure``, also for a connection that breaks while the body is read inside the
        block.
        """
        assert self._session is not None, "start() comes first"
        answered = False
        try:
            async with self._session.post(
                target(choice.backend.url, operation.upstream_paths[_PROTOCOL]),
                data=body,
                headers=self._headers(choice, request_id),
                allow_redirects=False,
            ) as response:
                answered = True
                del body  # A stream lasts for minutes, and need not hold what was sent.
                if response.status != 200:  # noqa: PLR2004  # HTTP OK
                    raise await self._refusal(response, request_id)
                yield response
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, Uncallable) as error:
            raise UpstreamFailure(
                ErrorCode.NO_BACKEND, type(error).__name__, may_have_spent=False
            ) from error
        except (aiohttp.ClientError, OSError) as error:
            code = ErrorCode.UPSTREAM_INTERRUPTED if answered else ErrorCode.UPSTREAM_ERROR
            raise UpstreamFailure(code, type(error).__name__, may_have_spent=True) from error

    async def body(self, response: aiohttp.ClientResponse) -> bytes:
        """The whole body; ``UpstreamFailure`` when it is larger than any answer may be."""
        parts: list[bytes] = []
        size = 0
        async for part in response.content.iter_any():
            size += len(part)
            if size > _BODY_BYTES_MAX:
                raise UpstreamFailure(
                    ErrorCode.UPSTREAM_ERROR,
                    f"a body of more than {_BODY_BYTES_MAX} bytes",
                    may_have_spent=True,
                )
            parts.append(part)
        return b"".join(parts)

    async def _refusal(self, response: aiohttp.ClientResponse, request_id: str) -> UpstreamFailure:
        """A status other than 200, with as much of its body as arrives within the bounds."""
        body = bytearray()
        with suppress(aiohttp.ClientError, TimeoutError, OSError):
            async with asyncio.timeout(_ERROR_MAX_S), aclosing(pieces(response)) as parts:
                async for part in parts:
                    body += part
                    if len(body) >= _ERROR_BYTES_MAX:
                        break
        failure = refusal(
            response.status,
            response.headers.get("retry-after"),
            bytes(body[:_ERROR_BYTES_MAX]),
            self.clock.now_ms(),
        )
        if self.logs_texts:
            _LOG.event(
                LogEvent.BACKEND_SAID, request_id=request_id, text=failure.client_message or ""
            )
        return failure

    def _headers(self, choice: Choice, request_id: str) -> dict[str, str]:
        return {
            "content-type": "application/json",
            "accept-encoding": "identity",
            "x-request-id": request_id,
            **self.authorization(choice.backend),
        }

    def authorization(self, backend: Backend) -> dict[str, str]:
        """The header with the backend's key, if it has one. Raises ``Uncallable`` for an unusable key."""
        variable = backend.api_key_env
        if variable is None or not (value := self.api_keys.get(variable)):
            return {}
        secret = foreign.usable_secret(value)
        if secret is None:
            if variable not in self._told:
                self._told.add(variable)
                _LOG.event(LogEvent.KEY_UNUSABLE, variable=variable)
            raise Uncallable(f"{variable} is unusable")
        return {"authorization": f"Bearer {secret}"}


async def pieces(response: aiohttp.ClientResponse) -> AsyncGenerator[bytes, None]:
    """A body as it comes; of one that breaks off all that had come, and then the error.

    aiohttp raises the error before it hands out what it has read.
    """
    content = response.content
    try:
        async for received in content.iter_any():
            yield received
    except aiohttp.ClientError:
        if left := b"".join(content._buffer):  # noqa: SLF001
            yield left
        raise


@functools.lru_cache(maxsize=4_096)
def target(url: str, path: str) -> URL:
    """Where to call; ``Uncallable`` where the configured URL is none that a client can call."""
    try:
        target = URL(operation_url(url, path))
        host = target.raw_host or ""
        host.encode("idna")
    except (ValueError, IndexError) as error:  # yarl raises both
        raise Uncallable("no URL") from error
    if target.scheme not in {"http", "https"} or not _HOST.fullmatch(host) or not target.port:
        raise Uncallable("no URL of a server")
    return target
