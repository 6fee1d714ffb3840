"""Lets only those speak to the admin API who may, and only what can be done now be tried.

Without TLS it has no password, so nobody but this machine's own programs may reach it: not another machine,
whatever address the port is bound to; not a web page open in a browser here, so names that merely resolve to
loopback are refused, and so is whatever another origin sends. Under mutual TLS whoever has a role is let in from
anywhere, but no page of another origin: a browser shows a certificate for any page. The status pages and what is
published of the API are for whoever asks.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from ipaddress import ip_address
from typing import Final, Protocol

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from ingress.admin.http.refusal import Refusal, problem_response
from schemas.api_pages import API_PATHS
from schemas.errors import ErrorCode
from schemas.readiness import STATUS_PATHS

_LOOPBACK: Final = re.compile(r"(127\.0\.0\.1|localhost|\[::1\])(:[0-9]{1,5})?", re.IGNORECASE)
_OPEN: Final = STATUS_PATHS | API_PATHS
_READING: Final = frozenset({"GET", "HEAD"})


class Door(Protocol):
    """Who is let in by certificate."""

    async def refusal(self, scope: Scope) -> Refusal | None:
        """Why not; ``None`` for who is."""


class Guard:
    """Wraps the application. ``missing`` tells what is not there that a write needs; a ``door`` is there under TLS."""

    def __init__(
        self, app: ASGIApp, missing: Callable[[], Sequence[str]], door: Door | None = None
    ) -> None:
        self._app = app
        self._missing = missing
        self._door = door

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 403 to who may not speak here, 503 to a write that cannot succeed."""
        is_guarded = scope["type"] == "http" and scope["path"] not in _OPEN
        refusal = await self._refusal(scope) if is_guarded else None
        if refusal is not None:
            await problem_response(refusal)(scope, receive, send)
            return
        await self._app(scope, receive, send)

    async def _refusal(self, scope: Scope) -> Refusal | None:
        headers = Headers(scope=scope)
        if self._door is not None:
            if not is_of_this_site(headers):
                return Refusal(ErrorCode.KEY_NOT_ALLOWED, "no page of another origin may do this")
            if (refusal := await self._door.refusal(scope)) is not None:
                return refusal
        elif not is_own(scope) or not is_local(headers):
            return Refusal(
                ErrorCode.KEY_NOT_ALLOWED,
                "address the admin API as 127.0.0.1 or localhost, from the machine or container it runs in",
            )
        if scope["method"] not in _READING and (missing := self._missing()):
            detail = f"nothing can be written now: {'; '.join(missing)}"
            return Refusal(ErrorCode.SERVICE_UNAVAILABLE, detail)
        return None


def is_own(scope: Scope) -> bool:
    """Whether the other end of the connection is on this machine."""
    client = scope.get("client")
    try:
        address = ip_address(client[0]) if client else None
    except ValueError:
        return False
    if address is None:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)


def is_local(headers: Headers) -> bool:
    """Whether the request names loopback as its host, and no other site as its origin."""
    hosts = headers.getlist("host")
    return is_of_this_site(headers) and _LOOPBACK.fullmatch(hosts[0]) is not None


def is_of_this_site(headers: Headers) -> bool:
    """Whether the request names one host, and no other site as its origin."""
    hosts, origins = headers.getlist("host"), headers.getlist("origin")
    return len(hosts) == 1 and {*origins} <= {f"http://{hosts[0]}", f"https://{hosts[0]}"}
