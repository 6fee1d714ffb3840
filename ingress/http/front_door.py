"""The server's side of a connection: uvicorn's, with bounds on what a client may send, and how slowly.

Data reaches the parser in pieces, so that nothing larger than a head is held before it is judged.
Every refusal is an answer, except where one is under way: then the connection ends after it.
"""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar, Final
from urllib.parse import unquote

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from ingress.http import head_guard
from ingress.http.connections import Connections, Phase
from ingress.http.cross_origin import origin_headers
from ingress.http.exchange import Exchange
from ingress.http.paths import HEALTHZ, READYZ, STARTUPZ
from ingress.http.refusals import Headers, Refusal
from ingress.http.unframed import unframed
from schemas.failures import Poison
from schemas.ids import UUID7_RANDOM_BYTES, uuid7
from schemas.runtime.process.clock import Clock, random_bytes

_PIECE_BYTES: Final = head_guard.HEAD_BYTES_MAX
_PIPELINED_MAX: Final = 32
"""Requests that may wait behind the one under way on a connection."""
_DISCARDED_BYTES_MAX: Final = 16 * 1024 * 1024
_UNWRITTEN_BYTES_HIGH: Final = 64 * 1024
_HEALTH: Final = frozenset(path.encode() for path in (HEALTHZ, READYZ, STARTUPZ))
_FRAMING: Final = (b"content-length", b"transfer-encoding")


class _Refused(Poison):
    """Raised inside the parser's callbacks, because only an exception stops the parser."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.message)
        self.refusal = refusal


class FrontDoor(HttpToolsProtocol):
    """One connection."""

    register: ClassVar[Connections]
    clock: ClassVar[Clock]
    origins: ClassVar[frozenset[bytes]]
    """Of pages that browsers may show the answers to."""

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self.is_spare = False
        self._phase: Phase = "head"
        self._running: RequestResponseCycle | None = None
        self._is_deaf = False
        """Nothing more is read: the connection ends with the answers under way."""
        self._in_body = False
        self._completed = False
        """A message ended in the piece that is being parsed."""
        self._head_bytes = 0
        self._is_muted = False
        """The parser reads a head of our own making."""
        self._trailers = 0
        self._framing_bytes = 0
        self._body_bytes = 0
        self._discarded_bytes = 0

    # What the transport tells.

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Give the connection a place, or end it."""
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=_UNWRITTEN_BYTES_HIGH)
        if not self.register.enter(self, self.loop.time()):
            self._phase = "closing"
            transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Free the place."""
        self.register.leave(self)
        if self._running is not None and not self._running.response_complete:
            _leave(self._running)  # Uvicorn tells the newest only.
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse what came, a piece at a time."""
        if len(data) <= _PIECE_BYTES:
            self._feed(data)
        else:
            whole = memoryview(data)
            for start in range(0, len(data), _PIECE_BYTES):
                self._feed(whole[start : start + _PIECE_BYTES])
        if self._phase == "idle":
            self._turn("head")

    def _feed(self, piece: bytes | memoryview) -> None:
        while piece:
            if self._phase in ("closing", "draining"):
                self._discard(len(piece))
            if self._phase == "closing" or self._is_deaf or self.transport.is_closing():
                return
            try:
                self.parser.feed_data(piece)
            except httptools.HttpParserUpgrade as upgrade:
                self._go_on_without_upgrade()
                piece = piece[upgrade.args[0] :]
                continue
            except httptools.HttpParserError as error:
                cause = error.__context__
                known = cause.refusal if isinstance(cause, _Refused) else head_guard.MALFORMED
                self._refuse(known)
                return
            self._judge_unfinished(len(piece))
            return

    def _go_on_without_upgrade(self) -> None:
        """Read on as HTTP/1.1: the parser stopped behind the head, a new one is told its framing."""
        framing = _framing(self.headers)
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        if framing is not None:
            self._is_muted = True
            self.parser.feed_data(b"POST / HTTP/1.1\r\n%s: %s\r\n\r\n" % framing)
            self._is_muted = False

    def _judge_unfinished(self, piece_bytes: int) -> None:
        """Bound what the parser has taken in without calling anything complete."""
        if self._completed:
            self._completed = False
            self._head_bytes = 0
        elif self._in_body:
            self._framing_bytes += piece_bytes
            if head_guard.is_too_much_framing(self._framing_bytes, self._body_bytes):
                self._refuse(head_guard.HEAD_TOO_LARGE)
        else:
            self._head_bytes += piece_bytes
            if self._head_bytes > head_guard.HEAD_BYTES_MAX:
                self._refuse(head_guard.HEAD_TOO_LARGE)

    def _discard(self, size: int) -> None:
        self._discarded_bytes += size
        if self._discarded_bytes > _DISCARDED_BYTES_MAX:
            self.transport.abort()

    # What the parser tells.

    def on_message_begin(self) -> None:
        """Begin a request."""
        if not self._is_muted:
            super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """Note a part of the target."""
        if not self._is_muted:
            super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Note a header; trailers come this way too and are dropped."""
        if self._is_muted:
            return
        if self._in_body:
            self._trailers += 1
            if self._trailers > head_guard.HEADERS_MAX:
                raise _Refused(head_guard.HEAD_TOO_LARGE)
            return
        if len(self.headers) >= head_guard.HEADERS_MAX:
            raise _Refused(head_guard.HEAD_TOO_LARGE)
        name = name.lower()
        if name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Begin to answer, or to queue behind the answer under way."""
        if self._is_muted:
            return
        version = self.parser.get_http_version()
        target_bytes = len(self.url) + len(self.parser.get_method()) + 14
        refusal = head_guard.refuse_head(version, target_bytes, self.headers)
        if refusal is None and self.is_spare and self.url not in _HEALTH:
            refusal = head_guard.FULL
        if refusal is not None or len(self.pipeline) >= _PIPELINED_MAX:
            raise _Refused(refusal or head_guard.FULL)
        if version == "1.0":
            # Such a client knows no interim answers: RFC 9110, section 10.1.1.
            self.expect_100_continue = False
        self._complete_scope(version)
        before, self.cycle = self.cycle, self._exchange(version)
        if before is None or before.response_complete:
            self._start_asgi_task(self.cycle, self.app)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((self.cycle, self.app))
        self._in_body, self._completed = True, True
        self._trailers = self._framing_bytes = self._body_bytes = 0
        if self._phase != "busy":
            self._turn("busy")

    def _complete_scope(self, version: str) -> None:
        """What the application is told of the head, as uvicorn tells it."""
        scope, target = self.scope, httptools.parse_url(self.url)
        path = target.path.decode("ascii")
        scope["method"] = self.parser.get_method().decode("ascii")
        scope["http_version"] = version
        scope["target"] = self.url  # type: ignore[typeddict-unknown-key]  # of ours: as it was sent
        scope["path"] = unquote(path) if "%" in path else path
        scope["raw_path"] = target.path
        scope["query_string"] = target.query or b""

    def _exchange(self, version: str) -> Exchange:
        # Whoever was not told to continue may or may not send the body.
        may_stay = not (self.is_spare or self.expect_100_continue) and version != "1.0"
        common = self.server_state.default_headers
        return Exchange(
            scope=self.scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=False,
            default_headers=self._default_headers() if self.origins else common,
            message_event=asyncio.Event(),
            expect_100_continue=self.expect_100_continue,
            keep_alive=may_stay and self.parser.should_keep_alive(),
            on_response=self.on_response_complete,
        )

    def on_body(self, body: bytes) -> None:
        """Note a part of the body."""
        self._body_bytes += len(body)
        self._framing_bytes -= len(body)
        if self._phase == "draining":
            return
        if self.expect_100_continue and not self.cycle.response_started:
            self.cycle.keep_alive = self.parser.should_keep_alive()
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Note the end of a message."""
        if self.parser.should_upgrade() and _framing(self.headers) is not None:
            return  # It is the end of the head only.
        self._in_body, self._completed = False, True
        super().on_message_complete()
        if self._phase == "draining":
            self._discarded_bytes = 0
            self._turn("idle")

    def on_response_complete(self) -> None:
        """Go on with the next request, or wait for one; no timer is armed for that."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        elif self._in_body:
            self._turn("draining")
        else:
            self._turn("head" if self._head_bytes else "idle")

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._running = cycle
        if cycle.scope["http_version"] == "1.0":
            app = unframed(app, cycle)
        super()._start_asgi_task(cycle, app)

    # What the register asks.

    def unwritten_bytes(self) -> int | None:
        """Bytes that the client has yet to take; ``None`` while the answer can still grow."""
        is_growing = self._phase == "busy" and not self.flow.write_paused
        return None if is_growing else self.transport.get_write_buffer_size()

    def too_late(self, phase: Phase) -> None:
        """End the connection; one that has begun a request is told why."""
        if phase == "head" and self._head_bytes:
            self._refuse(head_guard.HEAD_TOO_SLOW)
        elif self.transport.get_write_buffer_size() and phase != "closing":
            return  # Its answer is on the way; who does not take it is stuck, and found as such.
        else:
            self.transport.abort() if phase == "closing" else self.transport.close()

    def abort(self) -> None:
        """End the connection at once, as if its client had left."""
        self.transport.abort()

    def _turn(self, phase: Phase) -> None:
        self._phase = phase
        self.register.turn(self, phase, self.loop.time())

    def _refuse(self, refusal: Refusal) -> None:
        """Answer with the refusal and hang up; behind an answer under way, only hang up."""
        tail, running = self.cycle, self._running
        if running is None or running.response_complete:
            is_answered = self._phase == "draining"
            self._hang_up(None if is_answered else refusal)
        elif not self._in_body:
            tail.keep_alive = False
            self._is_deaf = True
        elif tail is not running:
            self.pipeline.popleft()
            (self.pipeline[0][0] if self.pipeline else running).keep_alive = False
            self._is_deaf = True
        else:
            _leave(running)
            self._hang_up(None if running.response_started else refusal)

    def _hang_up(self, refusal: Refusal | None) -> None:
        """Say a last word, and let the client read it before the connection ends."""
        if refusal is not None:
            self.register.on_refused(refusal.status, refusal.code)
            request_id = uuid7(self.clock.now_ms(), random_bytes(UUID7_RANDOM_BYTES))
            target, more = getattr(self, "url", b""), self._default_headers()
            self.transport.write(head_guard.refusal_answer(refusal, target, request_id, more))
        self._turn("closing")
        if not self.transport.is_closing():
            self.transport.write_eof()

    def _default_headers(self) -> Headers:
        """What every answer to the present request carries."""
        common = self.server_state.default_headers
        return [*common, *origin_headers(self.origins, self.headers or ())]


def _framing(headers: Headers) -> tuple[bytes, bytes] | None:
    """The header that says how long the body is."""
    return next((each for each in headers if each[0] in _FRAMING), None)


def _leave(cycle: RequestResponseCycle) -> None:
    """Tell the application that its client is gone."""
    cycle.disconnected = True
    cycle.message_event.set()


def front_door(register: Connections, clock: Clock, origins: frozenset[bytes]) -> type[FrontDoor]:
    """The protocol of a server, bound to the server's register and clock, and to the origins it serves."""

    class Bound(FrontDoor):
        pass

    Bound.register = register
    Bound.clock = clock
    Bound.origins = origins
    return Bound
