"""A steady load of mixed requests that outlives every crash: clients try again as SDKs do.

Open loop: requests leave at planned times, whatever the gateway does. Invariants: a request is in the
history before it is sent, every try is written down when it ends, and every request ends.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import aiohttp

from tests.chaos.evidence import OK, ClientRequest, Exchange
from tests.support.harness.gateway_client import MODEL, GatewayClient, Reply, steer
from tests.support.harness.grants import Grant

TRIES_MAX = 8
PAUSE_FIRST_S = 0.5
PAUSE_MAX_S = 4.0
TRY_DEADLINE_S = 45.0
REQUEST_DEADLINE_S = 75.0
JOB_POLL_S = 0.5
LONG_CHUNKS = 50
KINDS = ("sync", "sync", "stream", "stream", "job")
"""All of them under a key. Beside these, one of kind ``plain`` has none and is tried once; one of kind ``failover``
is broken off by one of the backends once it has spent, so that another attempt runs."""
BREAKING_BACKEND = "fake-a"
WORKS_MS = 1_200
"""So long that a call that breaks off is not taken for one that nobody read, and sent again (decision 0094)."""
NANO_PER_USD = 10**9


@dataclass
class Load:
    """Sends until it is told to stop; `history` grows as it goes."""

    client: GatewayClient
    grants: Sequence[Grant]
    rate_per_s: float
    rng: random.Random
    kinds: Sequence[str] = KINDS
    deadline_s: int | None = None
    """What clients ask for; the gateway's own when not given."""
    stream_s: float | None = None
    """How long each answer takes; at once or up to a second when not given."""
    try_deadline_s: float = TRY_DEADLINE_S
    tries_max: int = TRIES_MAX
    bodies: dict[str, dict[str, Any]] = field(default_factory=dict)
    """What was asked, by marker, to ask it again under the same key."""
    history: list[ClientRequest] = field(default_factory=list)
    failed_looks: int = 0
    """How often nobody answered who was asked for a job, or with 5xx."""
    is_stopping: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> None:
        """Send at the planned times until `stop`; returns once every request has ended."""
        start_s = time.monotonic()
        async with asyncio.TaskGroup() as sending:
            while not self.is_stopping.is_set():
                planned_s = start_s + len(self.history) / self.rate_per_s
                await asyncio.sleep(max(0.0, planned_s - time.monotonic()))
                sending.create_task(self._send(len(self.history)))
                # The task has not run yet, so the place in the history is taken here.
                self.history.append(self._plan(len(self.history)))

    def post(self, count: int) -> list[asyncio.Task[None]]:
        """Send so many at once, beside the plan; the tasks end when their requests have."""
        sending = []
        for number in range(len(self.history), len(self.history) + count):
            self.history.append(self._plan(number))
            sending.append(asyncio.create_task(self._send(number)))
        return sending

    async def ask_again(self, at_most: int) -> None:
        """Post what was asked first once more, as clients do that did not hear the answer."""
        for number in range(min(at_most, len(self.history))):
            await self._send(number)

    def stop(self) -> None:
        """Plan no further request."""
        self.is_stopping.set()

    def _plan(self, number: int) -> ClientRequest:
        grant = self.grants[number % len(self.grants)]
        kind = self.kinds[self.rng.randrange(len(self.kinds))]
        return ClientRequest(f"chaos-{number}-{self.rng.getrandbits(64):016x}", grant.org, kind)

    async def _send(self, number: int) -> None:
        request, grant = self.history[number], self.grants[number % len(self.grants)]
        if request.marker not in self.bodies:
            self.bodies[request.marker] = self._body(request)
        body = self.bodies[request.marker]
        pause_s = PAUSE_FIRST_S
        end_s = time.monotonic() + REQUEST_DEADLINE_S
        for _ in range(1 if request.kind == "plain" else self.tries_max):
            exchange, may_retry = await self._try(request, grant.key, body)
            request.tries.append(exchange)
            if not may_retry or time.monotonic() + pause_s > end_s:
                return
            await asyncio.sleep(pause_s * self.rng.uniform(0.75, 1.0))
            pause_s = min(2 * pause_s, PAUSE_MAX_S)

    def _body(self, request: ClientRequest) -> dict[str, Any]:
        """Some answer at once and some take up to a second, so that a crash meets all phases."""
        is_slow = self.rng.random() < 0.25
        delay_ms = (100 if request.kind == "stream" else 600) if is_slow else 0
        chunks, tokens = 8, self.rng.randint(8, 60)
        if self.stream_s is not None:
            chunks, tokens, delay_ms = (
                LONG_CHUNKS,
                LONG_CHUNKS,
                int(1_000 * self.stream_s / LONG_CHUNKS),
            )
        how: dict[str, Any] = {"chunks": chunks, "delay_ms": delay_ms}
        if request.kind == "failover":
            how = {"delay_ms": WORKS_MS, "mode": "reset", "only": BREAKING_BACKEND}
        wanted = steer(output_tokens=tokens, **how)
        messages = [
            {"role": "system", "content": request.marker},
            {"role": "user", "content": wanted},
        ]
        body = {"model": MODEL, "messages": messages, "max_tokens": 100}
        if request.kind == "job" and self.deadline_s is not None:
            body["ttl_s"] = self.deadline_s
        return body | ({"stream": True} if request.kind == "stream" else {})

    async def _try(
        self, request: ClientRequest, key: str, body: Mapping[str, Any]
    ) -> tuple[Exchange, bool]:
        """One try, and whether another one makes sense."""
        sent_s = time.monotonic()
        path = "/jobs" if request.kind == "job" else "/chat/completions"
        headers = {} if request.kind == "plain" else {"Idempotency-Key": request.marker}
        if self.deadline_s is not None:
            headers["X-Request-Timeout"] = str(self.deadline_s)
        try:
            async with asyncio.timeout(self.try_deadline_s):
                reply = await self.client.post(path, key, body, headers)
                if reply.status == 202:
                    request.promised = str(reply.json["id"])
                    return await self._fetch(sent_s, request.promised, key), False
        except TimeoutError:
            return Exchange(sent_s, time.monotonic(), "timeout"), True
        except aiohttp.ClientPayloadError:
            # A stream that broke after its first byte is not begun again by clients.
            return Exchange(sent_s, time.monotonic(), "broken_answer"), request.kind != "stream"
        except (aiohttp.ClientError, OSError) as error:
            return Exchange(sent_s, time.monotonic(), type(error).__name__), True
        return judge(reply, sent_s, time.monotonic())

    async def _fetch(self, sent_s: float, job_id: str, key: str) -> Exchange:
        """Poll the job until it has ended; the caller's deadline bounds it."""
        while True:
            reply = await self._look(f"/jobs/{job_id}", key)
            if reply is not None and reply.status == 200:
                job = reply.json
                if job["status"] == "completed":
                    text = str(job["result"]["choices"][0]["message"]["content"])
                    told = int(Decimal(job["cost_usd"]) * NANO_PER_USD)
                    return Exchange(sent_s, time.monotonic(), OK, job_id, _sha256(text), told)
                if job["status"] not in ("queued", "running"):
                    result = f"job {job['status']}: {job['error']['code']}"
                    return Exchange(sent_s, time.monotonic(), result, job_id)
            await asyncio.sleep(JOB_POLL_S)

    async def _look(self, path: str, key: str) -> Reply | None:
        try:
            reply = await self.client.get(path, key)
        except (aiohttp.ClientError, OSError):
            self.failed_looks += 1
            return None
        self.failed_looks += reply.status >= 500
        return reply


def judge(reply: Reply, sent_s: float, ended_s: float) -> tuple[Exchange, bool]:
    """What an answer says, and whether to try again: as SDKs do, on 409, 429 and 5xx unless told not to."""
    request_id = reply.headers.get("x-request-id")
    if reply.status == 200 and (not reply.is_stream or reply.events[-1:] == ["[DONE]"]):
        cost = reply.cost_usd
        told = None if cost is None else int(cost * NANO_PER_USD)
        return Exchange(sent_s, ended_s, OK, request_id, _sha256(reply.text), told), False
    if reply.status == 200:
        last = json.loads(reply.events[-1]) if reply.events else {}
        result = f"stream: {last.get('error', {}).get('code', 'no end mark')}"
        return Exchange(sent_s, ended_s, result, request_id), False
    error = reply.json
    # The routes of other dialects nest what the native ones say at the top.
    code = (error["error"] if isinstance(error["error"], dict) else error).get("code")
    may_retry = reply.status in (409, 429, 500, 502, 503, 504)
    if reply.headers.get("x-should-retry") == "false":
        may_retry = False
    return Exchange(sent_s, ended_s, f"{reply.status} {code}", request_id), may_retry


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
