"""Calls backends over HTTP. What goes wrong before the answer is one ``UpstreamFailure``; so is a broken
connection in it.

Connections are kept; cookies, redirects and proxies are off, and no compression is asked for; a client's own
headers never reach a backend. Every answer is read within bounds (``answer``, ``BODY_BYTES_MAX``).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

from dispatcher.upstream import foreign
from dispatcher.upstream.answer import Answer, AnswerBroken
from dispatcher.upstream.backend_words import words_of_body
from dispatcher.upstream.connecting import Connecting, Unreachable, tls_context
from dispatcher.upstream.connections import Connection, Connections
from dispatcher.upstream.content_coding import decoding_of
from dispatcher.upstream.event_splitter import BODY_BYTES_MAX, UpstreamGarbage
from dispatcher.upstream.target import Uncallable, place, request_head
from dispatcher.upstream.upstream_failure import UpstreamFailure, refusal, unreadable
from dispatcher.work import Choice
from schemas.entities import Backend
from schemas.errors import ErrorCode
from schemas.log_events import LogEvent
from schemas.operations import Operation
from schemas.runtime.process.clock import Clock
from schemas.runtime.process.event_log import EventLog

_LOG = EventLog(__name__)

_ANTHROPIC_VERSION: Final = "2023-06-01"
"""Of Anthropic's protocol; there is no later one."""
_ERROR_BYTES_MAX: Final = 64 * 1024
_ERROR_MAX_S: Final = 0.5
"""The status of a refusal says enough; its body may take this long."""


@dataclass(slots=True)
class Upstreams:
    """The HTTP client of the dispatcher."""

    api_keys: Mapping[str, str]
    """Environment variable to secret, as named by the backends' entries."""
    clock: Clock
    logs_texts: bool = False
    """Whether what backends say may stand in our logs."""
    connections: Connections = field(default_factory=lambda: Connections(Connecting(tls_context())))
    _told: set[str] = field(default_factory=set)
    """Variables whose keys were already called unusable."""

    async def stop(self) -> None:
        """Close all connections."""
        self.connections.close()
        await asyncio.sleep(0)  # The event loop lets go of them in its next turn.

    @asynccontextmanager
    async def call(
        self,
        choice: Choice,
        operation: Operation,
        body: bytes,
        request_id: str,
        *,
        fresh: bool = False,
        traceparent: str | None = None,
        more: Mapping[str, str] | None = None,
    ) -> AsyncIterator[Answer]:
        """The backend's answer to a call of the operation, status 200 checked, body not yet read.

        ``fresh`` takes no kept connection, which the backend may be closing. ``traceparent`` is the context of the
        call, where it is traced; ``more`` are headers that the call itself asks for.
        Raises ``UpstreamFailure``, also for a connection that breaks while the body is read inside the
        block.
        """
        used: list[Connection] = []
        answer: Answer | None = None
        try:
            at = place(choice.backend.url, operation.upstream_paths[choice.backend.protocol])
            headers = self._headers(choice, request_id)
            if more:
                headers.update(more)
            if traceparent is not None:
                headers["traceparent"] = traceparent
            head = request_head(at, headers, len(body))
            used.append(await self.connections.take(at.origin, fresh=fresh))
            try:
                answer = await used[-1].ask(head, body)
            except AnswerBroken as broken:
                # Nobody can have read it where the backend had no byte of it.
                if not broken.is_unread:
                    raise
                used.append(await self.connections.take(at.origin, fresh=True))
                answer = await used[-1].ask(head, body)
            del body  # A stream lasts for minutes, and need not hold what was sent.
            if answer.status != 200:  # noqa: PLR2004  # HTTP OK
                raise await self._refusal(answer, choice.backend, request_id)
            yield answer
        except (Unreachable, Uncallable) as error:
            code, cause = ErrorCode.NO_BACKEND, str(error)
            raise UpstreamFailure(code, cause, may_have_spent=False) from error
        except AnswerBroken as error:
            is_cut = answer is None and error.is_cut
            code = ErrorCode.UPSTREAM_INTERRUPTED if answer else ErrorCode.UPSTREAM_ERROR
            raise UpstreamFailure(code, str(error), may_have_spent=True, is_cut=is_cut) from error
        finally:
            for connection in used:
                self.connections.give_back(connection)

    async def body(self, answer: Answer) -> bytes:
        """The whole body; ``UpstreamFailure`` when it is larger than any answer may be."""
        parts: list[bytes] = []
        size = 0
        async with aclosing(pieces(answer)) as received:
            async for part in received:
                size += len(part)
                if size > BODY_BYTES_MAX:
                    raise unreadable(f"a body of more than {BODY_BYTES_MAX} bytes")
                parts.append(part)
        return b"".join(parts)

    async def _refusal(self, answer: Answer, backend: Backend, request_id: str) -> UpstreamFailure:
        """A status other than 200, with as much of its body as arrives within the bounds."""
        body = bytearray()
        with suppress(AnswerBroken, TimeoutError, UpstreamGarbage):
            async with asyncio.timeout(_ERROR_MAX_S), aclosing(pieces(answer)) as parts:
                async for part in parts:
                    body += part
                    if len(body) >= _ERROR_BYTES_MAX:
                        break
        said = bytes(body[:_ERROR_BYTES_MAX])
        failure = refusal(
            foreign.status(answer.status),
            f"status {answer.status}, {len(body)} bytes",
            words_of_body(said, self.hidden(backend)),
            foreign.retry_hint_ms(
                answer.header(b"retry-after"),
                answer.header(b"retry-after-ms"),
                self.clock.now_ms(),
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

    def lacks_key(self, variable: str) -> bool:
        """Whether the variable was not given: its backend is called without a key."""
        return not self.api_keys.get(variable)

    def _headers(self, choice: Choice, request_id: str) -> dict[str, str]:
        return {
            "content-type": "application/json",
            "accept-encoding": "identity",
            "x-request-id": request_id,
            **self.authorization(choice.backend),
        }

    def authorization(self, backend: Backend) -> dict[str, str]:
        """The headers with the backend's key, if it has one, and with the version of the protocol where it has some.
        Raises ``Uncallable`` for an unusable key."""
        if backend.protocol == "openai":
            secret = self._secret(backend)
            return {} if secret is None else {"authorization": f"Bearer {secret}"}
        headers, secret = {"anthropic-version": _ANTHROPIC_VERSION}, self._secret(backend)
        return headers if secret is None else {**headers, "x-api-key": secret}

    def _secret(self, backend: Backend) -> str | None:
        variable = backend.api_key_env
        if variable is None or not (value := self.api_keys.get(variable)):
            return None
        secret = foreign.usable_secret(value)
        if secret is None:
            if variable not in self._told:
                self._told.add(variable)
                _LOG.event(LogEvent.KEY_UNUSABLE, variable=variable)
            raise Uncallable(f"{variable} is unusable")
        return secret


async def pieces(answer: Answer) -> AsyncGenerator[bytes, None]:
    """A body as it comes, decoded; of one that breaks off all that had come, and then ``AnswerBroken``.

    Raises ``UpstreamGarbage`` for a content coding that is not taken.
    """
    decoding = decoding_of(answer.header(b"content-encoding"))
    while received := await answer.read():
        if decoding is None:
            yield received
            continue
        for piece in decoding.decoded(received):
            yield piece
