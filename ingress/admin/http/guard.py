"""Lets only this machine's own programs speak to the admin API.

It listens on loopback without a password, so a web page open in a browser here must not reach it:
names that merely resolve to loopback are refused, and so is whatever another origin sends.
"""

from __future__ import annotations

import re
from typing import Final

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from ingress.admin.http.refusal import Refusal, problem_response
from schemas.errors import ErrorCode

_LOOPBACK: Final = re.compile(r"(127\.0\.0\.1|localhost|\[::1\])(:[0-9]{1,5})?", re.IGNORECASE)


class LoopbackGuard:
    """Wraps the admin app."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 403 to what does not come from this machine, pass on the rest."""
        if scope["type"] == "http" and not is_local(Headers(scope=scope)):
            refusal = Refusal(
                ErrorCode.KEY_NOT_ALLOWED, "address the admin API as 127.0.0.1 or localhost"
            )
            await problem_response(refusal)(scope, receive, send)
            return
        await self._app(scope, receive, send)


def is_local(headers: Headers) -> bool:
    """Whether the request names loopback as its host, and no other site as its origin."""
    hosts, origin = headers.getlist("host"), headers.get("origin")
    if len(hosts) != 1 or _LOOPBACK.fullmatch(hosts[0]) is None:
        return False
    return origin in (None, f"http://{hosts[0]}", f"https://{hosts[0]}")
