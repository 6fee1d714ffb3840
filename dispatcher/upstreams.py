"""Calls backends over HTTP. Every library error becomes one ``UpstreamFailure``.

Connections are kept; redirects, proxies and compression are off; a client's own headers never reach a
backend.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import aiohttp
import msgspec

from dispatcher.routing import Choice
from schemas.entities import Backend
from schemas.errors import ErrorCode
from schemas.failures import Failure

_CONNECT_TIMEOUT_S = 5.0
_PROBE_TIMEOUT = aiohttp.ClientTimeout(total=2.0)
_SERVER_ERROR = 500
_KEEPALIVE_S = 60.0
_BODY_BYTES_MAX = 16 * 1024 * 1024
_MESSAGE_CHARS_MAX = 500
_OWN_FAULT = frozenset({401, 403, 407})
"""A backend that refuses our credentials: nothing the client can change."""
_TRY_ELSEWHERE = frozenset({408, 425, 429})


class UpstreamFailure(Failure):
    """A call that gave no completion.

    ``may_have_spent``: whether the backend may have worked before it failed. ``retryable``: whether
    another backend may succeed.
    """

    def __init__(
        self,
        code: ErrorCode,
        message: str,
        *,
        may_have_spent: bool,
        retryable: bool = True,
        upstream_status: int | None = None,
        retry_after_ms: int | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.may_have_spent = may_have_spent
        self.retryable = retryable
        self.upstream_status = upstream_status
        self.retry_after_ms = retry_after_ms


class _ErrorDetail(msgspec.Struct, frozen=True):
    message: str | None = None


class _ErrorBody(msgspec.Struct, frozen=True):
    error: _ErrorDetail | None = None


class Upstreams:
    """The HTTP client of the dispatcher."""

    def __init__(self, api_keys: Mapping[str, str]) -> None:
        """``api_keys``: environment variable to secret, as named by the backends' entries."""
        self._api_keys = api_keys
        self._session: aiohttp.ClientSession | None = None

    async def start(self) -> None:
        """Open the connection pool."""
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEPALIVE_S),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_TIMEOUT_S),
            auto_decompress=False,
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding"),
        )

    async def stop(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()

    @asynccontextmanager
    async def chat(
        self, choice: Choice, payload: bytes, request_id: str
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """The backend's answer to a chat completion, status 200 checked, body not yet read.

        Raises ``UpstreamFailure``, also for errors while the body is read inside the block.
        """
        assert self._session is not None, "start() comes first"
        answered = False
        try:
            async with self._session.post(
                f"{base_url(choice.backend.url)}/chat/completions",
                data=_for_backend(payload, choice),
                headers=self._headers(choice, request_id),
                allow_redirects=False,
            ) as response:
                answered = True
                if response.status != 200:  # noqa: PLR2004  # HTTP OK
                    raise _refusal(response, await _bounded_body(response))
                yield response
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise UpstreamFailure(
                ErrorCode.NO_BACKEND, f"no connection: {error}", may_have_spent=False
            ) from error
        except (aiohttp.ClientError, OSError) as error:
            code = ErrorCode.UPSTREAM_INTERRUPTED if answered else ErrorCode.UPSTREAM_ERROR
            raise UpstreamFailure(code, repr(error), may_have_spent=True) from error

    async def body(self, response: aiohttp.ClientResponse) -> bytes:
        """The whole body; ``UpstreamFailure`` when it is larger than any completion."""
        return await _bounded_body(response)

    async def answers(self, backend: Backend) -> bool:
        """Whether the backend lists its models within 2 s.

        Any status below 500 counts: a server without that list, or that wants a key for it, lives.
        """
        assert self._session is not None, "start() comes first"
        try:
            async with self._session.get(
                f"{base_url(backend.url)}/models",
                headers={"accept-encoding": "identity", **self._authorization(backend)},
                allow_redirects=False,
                timeout=_PROBE_TIMEOUT,
            ) as response:
                return response.status < _SERVER_ERROR
        except (aiohttp.ClientError, OSError, TimeoutError):
            return False

    def _headers(self, choice: Choice, request_id: str) -> dict[str, str]:
        return {
            "content-type": "application/json",
            "accept-encoding": "identity",
            "x-request-id": request_id,
            **self._authorization(choice.backend),
        }

    def _authorization(self, backend: Backend) -> dict[str, str]:
        variable = backend.api_key_env
        if variable is not None and (secret := self._api_keys.get(variable)):
            return {"authorization": f"Bearer {secret}"}
        return {}


def base_url(url: str) -> str:
    """The URL as ``OPENAI_BASE_URL`` would be: ``/v1`` is added to a bare host."""
    trimmed = url.rstrip("/")
    return trimmed if urlsplit(trimmed).path else f"{trimmed}/v1"


def _for_backend(payload: bytes, choice: Choice) -> bytes:
    """The body, with the backend's own name of the model where it has one."""
    if choice.upstream_model is None:
        return payload
    body = msgspec.json.decode(payload)
    body["model"] = choice.upstream_model
    return msgspec.json.encode(body)


async def _bounded_body(response: aiohttp.ClientResponse) -> bytes:
    parts: list[bytes] = []
    size = 0
    async for part in response.content.iter_any():
        size += len(part)
        if size > _BODY_BYTES_MAX:
            raise UpstreamFailure(
                ErrorCode.UPSTREAM_ERROR, "the answer is too large", may_have_spent=True
            )
        parts.append(part)
    return b"".join(parts)


def _refusal(response: aiohttp.ClientResponse, body: bytes) -> UpstreamFailure:
    """A status other than 200, in our terms."""
    status = response.status
    message = _message(body) or f"the backend answered {status}"
    if status in _TRY_ELSEWHERE:
        return UpstreamFailure(
            ErrorCode.OVERLOADED,
            message,
            may_have_spent=False,
            upstream_status=status,
            retry_after_ms=_retry_after_ms(response.headers.get("retry-after")),
        )
    client_fault = 400 <= status < 500 and status not in _OWN_FAULT  # noqa: PLR2004  # HTTP 4xx
    return UpstreamFailure(
        ErrorCode.UPSTREAM_REJECTED if client_fault else ErrorCode.UPSTREAM_ERROR,
        message,
        may_have_spent=False,
        retryable=not client_fault,
        upstream_status=status,
    )


def _message(body: bytes) -> str | None:
    try:
        parsed = msgspec.json.decode(body, type=_ErrorBody)
    except msgspec.DecodeError:
        return None
    detail = parsed.error and parsed.error.message
    return detail[:_MESSAGE_CHARS_MAX] if detail else None


def _retry_after_ms(header: str | None) -> int | None:
    """Milliseconds of a ``Retry-After`` in seconds; dates are not worth a parser here."""
    if header is None or not header.strip().isdigit():
        return None
    return min(int(header), 120) * 1000
