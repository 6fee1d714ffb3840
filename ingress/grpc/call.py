"""One call as it came: its metadata as the headers of a request, its message as the body.

So whatever judges requests over HTTP judges these, and sees no difference. The message is read only when the caller is
known and there is room for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping
from typing import Any, Final
from urllib.parse import unquote

import grpc
from starlette.types import Message

from ingress.http.refusals import Headers

__all__ = ["Call", "Context"]

Context = grpc.aio.ServicerContext[bytes, bytes]
_TIMEOUT_S_MAX: Final = 100_000.0
_TIMEOUT_S_MIN: Final = 0.001
_NOT_OF_CALLS: Final = frozenset(
    {b"content-type", b"content-encoding", b"content-length", b"transfer-encoding", b"prefer"}
)
"""What means something else here, or nothing: a call is always waited for."""


class Call:
    """A call under way. ``close`` it when it ends, for it may still be reading."""

    def __init__(self, context: Context, method: str, request_id: str) -> None:
        self.request_id = request_id
        """That of its answer; of an earlier request where the answer is one of that."""
        self.trailing: Headers = []
        """Headers that its answer would have over HTTP."""
        self._context = context
        self._reading: asyncio.Future[Any] | None = None
        sent = _headers_of(context)
        self.headers: Mapping[bytes, bytes] = dict(sent)
        path = method.encode()
        self.head: Mapping[str, Any] = {
            "method": "POST",
            "path": method,
            "raw_path": path,
            "query_string": b"",
            "target": path,
            "client": _client_of(context.peer()),
            "headers": sent,
            "state": {"request_id": request_id},
        }

    async def receive(self) -> Message:
        """The message, as a body is received over HTTP; whoever stops waiting for it may ask again."""
        if self._reading is None:
            self._reading = asyncio.ensure_future(_read(self._context))
        elif self._reading.done():
            return {"type": "http.disconnect"}
        raw = await asyncio.shield(self._reading)
        return {"type": "http.disconnect"} if raw is None else {"type": "http.request", "body": raw}

    def close(self) -> None:
        """Stop reading."""
        if self._reading is not None:
            self._reading.cancel()


async def _read(context: Context) -> bytes | None:
    """The message; ``None`` when its client left before it was whole, or when it is too large."""
    reading: Awaitable[Any] = context.read()
    raw = await reading
    return raw if isinstance(raw, bytes) else None


def _headers_of(context: Context) -> Headers:
    """Metadata that are texts, and what a body of JSON would be announced by; the call's deadline is the request's."""
    sent = [
        (name.encode("latin-1"), value.encode("latin-1", "replace"))
        for name, value in context.invocation_metadata() or ()
        if isinstance(value, str)
    ]
    headers = [header for header in sent if header[0] not in _NOT_OF_CALLS]
    headers += [(b"content-type", b"application/json"), (b"transfer-encoding", b"grpc")]
    left_s = context.time_remaining()
    if left_s is not None:
        bounded_s = min(_TIMEOUT_S_MAX, max(_TIMEOUT_S_MIN, left_s))
        headers.append((b"x-request-timeout", b"%.3f" % bounded_s))
    return headers


def _client_of(peer: str) -> tuple[str, int] | None:
    """The address in ``ipv4:127.0.0.1:4711`` or ``ipv6:%5B::1%5D:4711``."""
    kind, _, address = unquote(peer).partition(":")
    host, _, port = address.rpartition(":")
    if kind not in ("ipv4", "ipv6") or not port.isdigit():
        return None
    return host.strip("[]"), int(port)
