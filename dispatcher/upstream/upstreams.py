"""Calls backends over HTTP. What goes wrong before the answer is one ``UpstreamFailure``; so is a broken
connection in it.

Connections are kept; cookies, redirects and proxies are off, and no compression is asked for; a client's own
headers never reach a backend. Every answer is read within bounds (``connections``, ``BODY_BYTES_MAX``).
"""

from __future__ import annotations

import asyncio
import functools
import re
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

import aiohttp
from yarl import URL

from dispatcher.upstream import foreign
from dispatcher.upstream.backend_words import words_of_body
from dispatcher.upstream.connections import (
    HEADERS_MAX,
    LINE_BYTES_MAX,
    Connections,
    connection_used,
    needs_fresh,
)
from dispatcher.upstream.content_coding import decoding_of
from dispatcher.upstream.event_splitter import BODY_BYTES_MAX, UpstreamGarbage
from dispatcher.upstream.upstream_failure import UpstreamFailure, refusal, unreadable
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
        self,
        choice: Choice,
        operation: Operation,
        body: bytes,
        request_id: str,
        *,
        fresh: bool = False,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """The backend's answer to a call of the operation, status 200 checked, body not yet read.

        ``fresh`` takes no kept connection, which the backend may be closing.
        Raises ``UpstreamFailure``, also for a connection that breaks while the body is read inside the
        block.
        """
        answered = False
        try:
            url = target(choice.backend.url, operation.upstream_paths[_PROTOCOL])
            headers = self._headers(choice, request_id)
            async with await self._post(url, body, headers, fresh=fresh) as response:
                answered = True
                del body  # A stream lasts for minutes, and need not hold what was sent.
                if response.status != 200:  # noqa: PLR2004  # HTTP OK
                    raise await self._refusal(response, choice.backend, request_id)
                yield response
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, Uncallable) as error:
            raise UpstreamFailure(
                ErrorCode.NO_BACKEND, type(error).__name__, may_have_spent=False
            ) from error
        except (aiohttp.ClientError, OSError) as error:
            code = ErrorCode.UPSTREAM_INTERRUPTED if answered else ErrorCode.UPSTREAM_ERROR
            used = connection_used.get()
            is_cut = not answered and used is not None and used.was_cut
            raise UpstreamFailure(
                code, type(error).__name__, may_have_spent=True, is_cut=is_cut
            ) from error

    async def _post(
        self, url: URL, body: bytes, headers: dict[str, str], *, fresh: bool
    ) -> aiohttp.ClientResponse:
        """The head of an answer. Sent once more where a kept connection was closed before the backend had a byte
        of the call: nobody can have read it."""
        if not fresh:
            try:
                return await self._send(url, body, headers)
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
                used = connection_used.get()
                if used is None or not used.was_unread:
                    raise
        token = needs_fresh.set(True)
        try:
            return await self._send(url, body, headers)
        finally:
            needs_fresh.reset(token)

    async def _send(self, url: URL, body: bytes, headers: dict[str, str]) -> aiohttp.ClientResponse:
        assert self._session is not None, "start() comes first"
        connection_used.set(None)
        response = await self._session.post(url, data=body, headers=headers, allow_redirects=False)
        kept, used = response.headers.get("keep-alive"), connection_used.get()
        if kept is not None and used is not None:
            used.keep(kept)
        return response

    async def body(self, response: aiohttp.ClientResponse) -> bytes:
        """The whole body; ``UpstreamFailure`` when it is larger than any answer may be."""
        parts: list[bytes] = []
        size = 0
        async with aclosing(pieces(response)) as received:
            async for part in received:
                size += len(part)
                if size > BODY_BYTES_MAX:
                    raise unreadable(f"a body of more than {BODY_BYTES_MAX} bytes")
                parts.append(part)
        return b"".join(parts)

    async def _refusal(
        self, response: aiohttp.ClientResponse, backend: Backend, request_id: str
    ) -> UpstreamFailure:
        """A status other than 200, with as much of its body as arrives within the bounds."""
        body = bytearray()
        with suppress(aiohttp.ClientError, TimeoutError, OSError, UpstreamGarbage):
            async with asyncio.timeout(_ERROR_MAX_S), aclosing(pieces(response)) as parts:
                async for part in parts:
                    body += part
                    if len(body) >= _ERROR_BYTES_MAX:
                        break
        headers, said = response.headers, bytes(body[:_ERROR_BYTES_MAX])
        failure = refusal(
            foreign.status(response.status),
            f"status {response.status}, {len(body)} bytes",
            words_of_body(said, self.hidden(backend)),
            foreign.retry_hint_ms(
                headers.get("retry-after"), headers.get("retry-after-ms"), self.clock.now_ms()
            ),
            said,
        )
        if self.logs_texts:
            _LOG.event(
                LogEvent.BACKEND_SAID, request_id=request_id, text=failure.client_message or ""
            )
        return failure

    def hidden(self, backend: Backend) -> tuple[str, ...]:
        """What must not get out with a backend's words: its key, and where it stands."""
        secret = (self.api_keys.get(backend.api_key_env or "") or "").strip()
        place = urlsplit(backend.url)
        # A host of one word may be any word of a message.
        hosts = (place.netloc, *([place.hostname] if "." in (place.hostname or "") else ()))
        return tuple(text for text in (secret, *hosts) if text)

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
    """A body as it comes, decoded; of one that breaks off all that had come, and then the error.

    aiohttp raises the error before it hands out what it has read. Raises ``UpstreamGarbage`` for a content coding
    that is not taken.
    """
    content = response.content
    decoding = decoding_of(response.headers.get("content-encoding"))
    try:
        async for received in content.iter_any():
            if decoding is None:
                yield received
                continue
            for piece in decoding.decoded(received):
                yield piece
    except aiohttp.ClientError:
        left = b"".join(content._buffer)  # noqa: SLF001
        for piece in decoding.decoded(left) if decoding else (left,):
            if piece:
                yield piece
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
