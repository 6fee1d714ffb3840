"""Calls an external budget service over HTTP: bounded in time, bytes and connections; it follows nobody elsewhere."""

from __future__ import annotations

import asyncio
from typing import Final

import aiohttp

from schemas.failures import Transient
from schemas.runtime.process.settings import BudgetServiceSettings

__all__ = ["BudgetService", "ServiceSilent", "budget_service"]

_BODY_MAX: Final = 64 * 1024
_CONNECTIONS_MAX: Final = 32
_IDLE_S: Final = 15.0
_TAKEN: Final = range(200, 300)


class ServiceSilent(Transient):
    """No answer came in time, or none that can be read as one."""


class BudgetService:
    """A budget service at an address such as ``http://budget:8082``; ``token`` is sent as a bearer's."""

    def __init__(self, endpoint: str, timeout_s: float, token: str | None = None) -> None:
        self._endpoint = endpoint.rstrip("/")
        self.timeout_s = timeout_s
        self._headers = {"content-type": "application/json", "accept-encoding": "identity"}
        if token:
            self._headers["authorization"] = f"Bearer {token}"
        self._session: aiohttp.ClientSession | None = None

    async def post(self, path: str, body: bytes) -> tuple[int, bytes]:
        """Status and body of the answer. Raises ``ServiceSilent``.

        A connection that was closed while nobody used it is no silence, so a second one is tried.
        """
        try:
            async with asyncio.timeout(self.timeout_s):
                try:
                    return await self._post(path, body)
                except aiohttp.ClientConnectionError:
                    return await self._post(path, body)
        except TimeoutError:
            raise ServiceSilent(f"no answer within {self.timeout_s} s") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise ServiceSilent(f"{type(error).__name__}: {error}"[:200]) from None

    async def close(self) -> None:
        """Disconnect; whoever calls it later connects anew."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _post(self, path: str, body: bytes) -> tuple[int, bytes]:
        session = self._session or self._connected()
        url = self._endpoint + path
        async with session.post(url, data=body, allow_redirects=False) as response:
            if response.status not in _TAKEN:
                return response.status, b""
            read = bytearray()
            async for part in response.content.iter_any():
                read += part
                if len(read) > _BODY_MAX:
                    response.close()
                    raise ServiceSilent(f"its answer is larger than {_BODY_MAX} bytes")
            return response.status, bytes(read)

    def _connected(self) -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(limit=_CONNECTIONS_MAX, keepalive_timeout=_IDLE_S)
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            headers=self._headers,
            auto_decompress=False,
            timeout=aiohttp.ClientTimeout(total=None),
        )
        return self._session


def budget_service(settings: BudgetServiceSettings) -> BudgetService | None:
    """The service that the settings name, if they name one."""
    if settings.budget_service_endpoint is None:
        return None
    token = settings.budget_service_token
    return BudgetService(
        settings.budget_service_endpoint,
        settings.budget_service_timeout_s,
        None if token is None else token.get_secret_value(),
    )
