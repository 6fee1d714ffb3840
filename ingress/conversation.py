"""The inference routes: takes a request in, hands it to the log, and answers with what comes back.

Nothing is awaited between the produce and the answer but the answer itself; the broker's
acknowledgement runs beside it and only speaks up when it fails.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

from starlette.types import Receive, Scope, Send

from ingress.acceptance import PRODUCE_WITHIN_MS, Reception, accept, record_headers
from ingress.answers import refusal_of, terminal_headers
from ingress.auth import Caller, authenticate
from ingress.json_guard import read_object
from ingress.mailbox import Mailbox, Times
from ingress.orders import Order, ReadOrder
from ingress.paths import surface_of
from ingress.refusals import Refusal
from ingress.request_headers import deadline_ms_of, refuse_media, traceparent_of
from ingress.responses import read_body, refuse, respond
from ingress.settings import MIB, IngressSettings
from ingress.stream import StreamAnswer
from ingress.waiters import Waiters
from schemas.codec import encode
from schemas.errors import ErrorCode
from schemas.runtime.bus import channel_of
from schemas.runtime.clock import Clock
from schemas.runtime.config import ConfigFeed
from schemas.runtime.produce import Outgoing, Producer
from schemas.topics import REQUESTS

_PAYLOAD_BYTES_MAX: Final = 4 * MIB + 64 * 1024
"""Writing numbers out can lengthen a body; this keeps every record below the topic's limit."""


@dataclass(slots=True)
class Intake:
    """What the inference routes share."""

    settings: IngressSettings
    config: ConfigFeed
    producer: Producer
    waiters: Waiters
    clock: Clock
    is_open: bool = False
    """False until everything is connected: an unread configuration knows no key."""
    active: int = 0

    def refuse_now(self) -> Refusal | None:
        """Why no request can be taken at all at this moment."""
        if not self.is_open:
            return Refusal(ErrorCode.SERVICE_UNAVAILABLE, "The gateway is starting.")
        if self.active >= self.settings.inflight_max:
            return Refusal(ErrorCode.OVERLOADED, "The gateway is full.")
        return None


@dataclass(frozen=True, slots=True)
class _Taken:
    """A request that passed all checks of ingress."""

    caller: Caller
    order: Order
    received_at_ms: int
    timeout_ms: int
    traceparent: bytes | None


class Conversation:
    """One inference route, as an ASGI application."""

    def __init__(self, intake: Intake, route: str, read_order: ReadOrder) -> None:
        self._intake = intake
        self._route = route
        self._read_order = read_order
        self._pepper = intake.settings.key_pepper.get_secret_value().encode()
        self._reply_to = channel_of(intake.settings.instance_id)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        request_id = scope["state"]["request_id"]
        refusal = self._intake.refuse_now()
        if refusal is not None:
            await refuse(send, refusal, surface_of(scope["path"]), request_id, [])
            return
        self._intake.active += 1
        try:
            taken = await self._take(scope, receive)
            if isinstance(taken, Refusal):
                await refuse(send, taken, surface_of(scope["path"]), request_id, [])
            elif taken is not None:
                await self._converse(request_id, taken, receive, send)
        finally:
            self._intake.active -= 1

    async def _take(self, scope: Scope, receive: Receive) -> _Taken | Refusal | None:
        """Check the request; ``None`` when its client left meanwhile."""
        settings, snapshot = self._intake.settings, self._intake.config.snapshot
        headers = dict(scope["headers"])
        now_ms = self._intake.clock.now_ms()
        caller = authenticate(headers, snapshot, self._pepper, now_ms)
        if isinstance(caller, Refusal):
            return caller
        refusal = refuse_media(headers)
        if refusal is not None:
            return refusal
        timeout_ms = deadline_ms_of(headers, settings.deadline_default_s, settings.deadline_max_s)
        if isinstance(timeout_ms, Refusal):
            return timeout_ms
        body = await read_body(receive, headers, settings.max_body_bytes)
        if body is None or isinstance(body, Refusal):
            return body
        fields = read_object(body)
        if isinstance(fields, Refusal):
            return fields
        order = self._read_order(fields, snapshot, caller)
        if isinstance(order, Refusal):
            return order
        if len(order.call.payload) > _PAYLOAD_BYTES_MAX:
            return Refusal(ErrorCode.BODY_TOO_LARGE, "The body is too large when written out.")
        return _Taken(caller, order, now_ms, timeout_ms, traceparent_of(headers))

    async def _converse(self, request_id: str, taken: _Taken, receive: Receive, send: Send) -> None:
        mailbox = self._submit(request_id, taken, receive)
        try:
            if taken.order.call.stream:
                await StreamAnswer(mailbox, taken.order.dialect, send).relay()
            else:
                await _answer(mailbox, taken.order, send)
        finally:
            self._intake.waiters.close(mailbox)

    def _submit(self, request_id: str, taken: _Taken, receive: Receive) -> Mailbox:
        """Produce the request, and open its mailbox in the same turn of the loop."""
        intake = self._intake
        reception = Reception(
            request_id=request_id,
            route=self._route,
            accepted_at_ms=taken.received_at_ms,
            deadline_ms=taken.received_at_ms + taken.timeout_ms,
            config_offset=intake.config.snapshot.offset,
            reply_to=self._reply_to,
        )
        accepted = accept(taken.order, taken.caller, reception)
        headers = record_headers(accepted, intake.settings.instance_id, taken.traceparent)
        produced = intake.producer.send(
            Outgoing(REQUESTS, accepted.org.encode(), encode(accepted), headers)
        )
        now_s = asyncio.get_running_loop().time()
        times = Times(now_s, now_s + PRODUCE_WITHIN_MS / 1000, now_s + taken.timeout_ms / 1000)
        return intake.waiters.open(request_id, receive, times, produced)


async def _answer(mailbox: Mailbox, order: Order, send: Send) -> None:
    """Answer a request that is not streamed."""
    terminal = await mailbox.take_terminal()
    if terminal is None:
        return
    headers = terminal_headers(terminal)
    body = refusal_of(terminal) or order.dialect.body(terminal)
    if isinstance(body, Refusal):
        await refuse(send, body, order.dialect.surface, mailbox.request_id, headers)
    else:
        await respond(send, terminal.http_status, b"application/json", body, headers)
