"""Answers to HTTP/1.0 clients: plain bytes, which the end of the connection ends where no length is known.

Such a client knows no chunks and would take their sizes for content. Source: RFC 9112, sections 6.1 and 6.3.
"""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle


def unframed(app: ASGIApp, cycle: RequestResponseCycle) -> ASGIApp:
    """The application as an HTTP/1.0 client is served it. Uvicorn closes the connection after each of its answers."""

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        is_endless = False

        async def send_plain(message: Message) -> None:
            nonlocal is_endless
            if message["type"] == "http.response.start":
                names = {name.lower() for name, _ in message.get("headers", ())}
                is_endless = b"content-length" not in names
                if is_endless:
                    cycle.chunked_encoding = False
            elif is_endless:
                # Uvicorn compares what it is given with what was announced, and nothing was.
                cycle.expected_content_length = len(message.get("body", b""))
            await send(message)

        await app(scope, receive, send_plain)

    return serve
