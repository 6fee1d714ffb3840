"""Exports spans over OTLP, beside everything else: what the receiver does not take costs spans and nothing more.

At most one call is under way, of bounded size and time. Spans of a call that failed for the moment are tried again while
there is room for them; pauses grow to half a minute. An outage is two lines in the log: when it began, and when it was over.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from enum import Enum, auto
from typing import Final

import aiohttp

from schemas.log_events import LogEvent
from schemas.runtime.process.event_log import EventLog
from schemas.runtime.process.otlp import export_request, rejected_spans
from schemas.runtime.process.telemetry import Metrics
from schemas.runtime.process.tracing import Span, Tracer, Value

__all__ = ["SpanExporter"]

_LOG = EventLog(__name__)

_BATCH_MAX: Final = 128
"""Spans that are written at once: the event loop stands still for less than 2 ms."""
_TOGETHER_S: Final = 1.0
"""How long the first span waits for company."""
_WITHIN_S: Final = 5.0
_PAUSE_FIRST_S: Final = 1.0
_PAUSE_MAX_S: Final = 30.0
_AT_THE_END_S: Final = 1.0
_ANSWER_BYTES_MAX: Final = 64 * 1024
_TAKEN: Final = range(200, 300)
_FOR_NOW: Final = frozenset({408, 429, 502, 503, 504})
"""Answers after which the same may be sent again. Source: OTLP/HTTP, failures that can be retried."""


class _Sent(Enum):
    TAKEN = auto()
    REFUSED = auto()
    AWAY = auto()


class SpanExporter:
    """Sends the ended spans of a tracer to a receiver."""

    def __init__(
        self,
        tracer: Tracer,
        url: str,
        headers: Mapping[str, str],
        resource: Mapping[str, Value],
    ) -> None:
        """``url`` is that of the receiver's traces; ``headers`` go with each call."""
        self._tracer = tracer
        self._url = url
        self._headers = {"content-type": "application/x-protobuf", **headers}
        self._resource = resource
        self._session: aiohttp.ClientSession | None = None
        self._arrived = asyncio.Event()
        self._is_away = False
        self._refusal: int | None = None
        """The status of the last call, where the receiver refused it."""
        self._taken = self._refused = 0
        tracer.on_ended = self._arrived.set

    def expose(self, metrics: Metrics) -> None:
        """Export what became of spans."""
        metrics.total("tallygate_spans_total", lambda: self._taken, "exported")
        metrics.total("tallygate_spans_total", lambda: self._refused, "refused")
        metrics.total("tallygate_spans_total", lambda: self._tracer.dropped, "dropped")

    async def run(self) -> None:
        """Export what ends, second by second, for ever."""
        pause_s = _PAUSE_FIRST_S
        while True:
            await self._arrived.wait()
            await asyncio.sleep(_TOGETHER_S)
            self._arrived.clear()
            if await self._export_all():
                pause_s = _PAUSE_FIRST_S
            else:
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, _PAUSE_MAX_S)
                self._arrived.set()

    async def stop(self) -> None:
        """Export what is left, for at most a second, and disconnect."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_AT_THE_END_S):
                await self._export_all()
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _export_all(self) -> bool:
        """Export until nothing waits; False when the receiver is away."""
        waiting = self._tracer.ended
        while waiting:
            batch = [waiting.popleft() for _ in range(min(len(waiting), _BATCH_MAX))]
            match await self._send(batch):
                case _Sent.TAKEN:
                    self._taken += len(batch)
                case _Sent.REFUSED:
                    self._refused += len(batch)
                case _Sent.AWAY:
                    for span in reversed(batch):
                        self._tracer.keep_again(span)
                    return False
        return True

    async def _send(self, batch: Sequence[Span]) -> _Sent:
        """One call; raises nothing but a cancellation, whatever the receiver does."""
        body = export_request(batch, self._resource)
        try:
            async with asyncio.timeout(_WITHIN_S):
                status, answer = await self._post(body)
        except (TimeoutError, aiohttp.ClientError, OSError, ValueError) as error:
            return self._away(f"{type(error).__name__}: {error}")
        if status in _FOR_NOW:
            return self._away(f"status {status}")
        if status not in _TAKEN:
            if status != self._refusal:
                self._refusal = status
                _LOG.event(LogEvent.SPANS_REFUSED, count=len(batch), status=status)
            return _Sent.REFUSED
        self._refusal = None
        if self._is_away:
            self._is_away = False
            _LOG.event(LogEvent.SPANS_TAKEN_AGAIN, count=self._tracer.dropped)
        if (rejected := rejected_spans(answer)) > 0:
            rejected = min(rejected, len(batch))
            self._taken, self._refused = self._taken - rejected, self._refused + rejected
        return _Sent.TAKEN

    async def _post(self, body: bytes) -> tuple[int, bytes]:
        session = self._session or self._connected()
        async with session.post(self._url, data=body, allow_redirects=False) as response:
            answer = await response.content.read(_ANSWER_BYTES_MAX)
            if not response.content.at_eof():
                response.close()
            return response.status, answer

    def _connected(self) -> aiohttp.ClientSession:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=1),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers=self._headers,
            timeout=aiohttp.ClientTimeout(total=None),
        )
        return self._session

    def _away(self, why: str) -> _Sent:
        if not self._is_away:
            self._is_away = True
            _LOG.event(LogEvent.SPANS_NOT_TAKEN, cause=why[:200])
        return _Sent.AWAY
