"""Asks a service over HTTP within bounds: of time, of bytes, at the address that was configured and no other.

Whatever is wrong with the answer or the way there is a cause in words, never an exception: a service that identities
depend on may be odd, hang or lie, and costs only those who ask it. No redirect is followed, no cookie kept, no proxy of
the environment used, and nothing compressed is taken, since a few bytes of it could become many.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import httpx

from ingress.auth.http_answer import Answer

__all__ = ["bounded_client", "bounded_get"]

_CAUSE_CHARS_MAX: Final = 200
_CONNECT_S: Final = 2.0
_USER_AGENT: Final = "tallygate"


def bounded_client(ca_file: Path | None, connections_max: int) -> httpx.AsyncClient:
    """A client for one service. Raises ``OSError`` or ``ssl.SSLError`` when the certificates cannot be read."""
    verify = ssl.create_default_context(cafile=None if ca_file is None else str(ca_file))
    return httpx.AsyncClient(
        verify=verify,
        trust_env=False,
        follow_redirects=False,
        limits=httpx.Limits(max_connections=connections_max, max_keepalive_connections=4),
        headers={
            "user-agent": _USER_AGENT,
            "accept": "application/json",
            "accept-encoding": "identity",
        },
    )


async def bounded_get(
    client: httpx.AsyncClient,
    url: str,
    headers: Mapping[str, str],
    *,
    bytes_max: int,
    within_s: float,
) -> Answer | str:
    """The answer, or why there is none."""
    try:
        async with asyncio.timeout(within_s):
            return await _get(client, url, headers, bytes_max, within_s)
    except TimeoutError:
        return f"no answer within {within_s:g} s"
    except Exception as error:  # noqa: BLE001  # total: what comes from outside costs its own question
        return f"{type(error).__name__}: {error}"[:_CAUSE_CHARS_MAX]


async def _get(
    client: httpx.AsyncClient,
    url: str,
    headers: Mapping[str, str],
    bytes_max: int,
    within_s: float,
) -> Answer | str:
    timeout = httpx.Timeout(within_s, connect=min(_CONNECT_S, within_s))
    async with client.stream("GET", url, headers=dict(headers), timeout=timeout) as response:
        client.cookies.clear()
        if response.headers.get("content-encoding", "identity").lower() != "identity":
            return "its answer is compressed"
        body = bytearray()
        async for chunk in response.aiter_raw():
            body += chunk
            if len(body) > bytes_max:
                return f"its answer has more than {bytes_max} bytes"
        return Answer(response.status_code, bytes(body), response.headers.get("etag"))
