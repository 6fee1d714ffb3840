"""Two hundred flex requests with room for twenty at once, beside interactive traffic, every process killed -9 once.

`make flex-slack`: half of the flex requests wait on connections under keys and come again when these break, half are
jobs. Each must end completed or with the stated error before its deadline, once in the log, with one usage line for each
call that a dispatcher began; no more than there is room for may run at once; and the interactive p95 is told without flex,
with it, and during the kills. Exit code 1 when anything of that is not so.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import httpx

from tests.chaos.evidence import Evidence
from tests.chaos.gathering import gather
from tests.chaos.rig import ROLES, Rig, running_rig
from tests.support.fakes.call_log import Call
from tests.support.harness.gateway_client import MODEL, steer

REQUESTS = 200
ROOM = 20
CALL_MS = 6_000
DEADLINE_S = 420
BEFORE_S = 20.0
BETWEEN_KILLS_S = 7.0
RATE_PER_S = 15
GRACE_S = 10.0
"""An answer may come so long after the deadline: ingress looks for it once more."""
COST = {"input_usd_per_mtok": "0.50", "output_usd_per_mtok": "1.50"}
SLACK_MODEL = "flex-slack"
_NO_ROOM = "resource_unavailable"
_ENDS = ("upstream_interrupted", "result_lost", "body_lost", "deadline_exceeded")
"""Ends that stay the answer of a key."""


@dataclass(frozen=True)
class Ended:
    """How one flex request ended for its client."""

    how: str
    request_id: str
    after_s: float


@dataclass
class Clients:
    """Everybody who asks, and what they saw."""

    rig: Rig
    session: aiohttp.ClientSession
    ended: list[Ended] = field(default_factory=list)
    latencies: list[tuple[float, float, int]] = field(default_factory=list)
    """When interactive requests began, how long each took, and the status (0: no connection)."""

    def key(self, number: int) -> str:
        """In turn of the organizations."""
        return self.rig.grants[number % len(self.rig.grants)].key

    async def wait_for_flex(self, number: int) -> None:
        """On a connection, under a key: whoever loses it comes again."""
        began_s, headers = time.monotonic(), {"Idempotency-Key": str(uuid.uuid4())}
        headers |= {"X-Request-Timeout": str(DEADLINE_S)}
        body = _body(steer(delay_ms=CALL_MS, output_tokens=2))
        while time.monotonic() - began_s < DEADLINE_S + GRACE_S:
            status, told, answer = await self._post("/chat/completions", number, body, headers)
            code = _code_in(answer)
            if status == 200 or code == _NO_ROOM:
                how = "completed" if status == 200 else _NO_ROOM
                self._note(how, told, began_s)
                return
            if status not in (0, 409, 429, 500, 502, 503, 504) or code in _ENDS:
                self._note(f"{status} {code}", told, began_s)
                return
            await asyncio.sleep(1.0)
        self._note("no end", "", began_s)

    async def wait_for_job(self, number: int) -> None:
        """Posted, and then asked for until it has ended; what could not be promised is posted again under its key."""
        began_s, headers = time.monotonic(), {"Idempotency-Key": str(uuid.uuid4())}
        body = {**_body(steer(delay_ms=CALL_MS, output_tokens=2)), "ttl_s": DEADLINE_S}
        job: dict[str, Any] = {}
        while time.monotonic() - began_s < DEADLINE_S + GRACE_S:
            if not job:
                status, _, answer = await self._post("/jobs", number, body, headers)
                job = answer if status == 202 else {}
            else:
                status, _, answer = await self._get(f"/jobs/{job['id']}", number)
                code = _code_in(answer)
                if answer.get("status") == "completed" or (status == 200 and code is not None):
                    self._note(str(code or "completed"), job["id"], began_s)
                    return
            await asyncio.sleep(1.0)
        self._note("no end", str(job.get("id", "")), began_s)

    async def interact(self, until: asyncio.Event) -> None:
        """A steady rate of short requests, whatever becomes of earlier ones."""
        running: set[asyncio.Task[None]] = set()
        number = 0
        while not until.is_set():
            task = asyncio.create_task(self._ask(number))
            running.add(task)
            task.add_done_callback(running.discard)
            number += 1
            await asyncio.sleep(1 / RATE_PER_S)
        if running:
            await asyncio.wait(running)

    async def _ask(self, number: int) -> None:
        began_s = time.monotonic()
        body = {**_body(steer(delay_ms=50, output_tokens=2)), "service_tier": "default"}
        status, _, _ = await self._post("/chat/completions", number, body, {})
        self.latencies.append((began_s, time.monotonic() - began_s, status))

    def _note(self, how: str, request_id: str, began_s: float) -> None:
        self.ended.append(Ended(how, request_id, time.monotonic() - began_s))

    async def _post(
        self, path: str, number: int, body: dict[str, Any], headers: dict[str, str]
    ) -> tuple[int, str, dict[str, Any]]:
        asked = {"Authorization": f"Bearer {self.key(number)}", **headers}
        return await self._told(
            lambda: self.session.post(self.rig.stack.api_url + path, json=body, headers=asked)
        )

    async def _get(self, path: str, number: int) -> tuple[int, str, dict[str, Any]]:
        asked = {"Authorization": f"Bearer {self.key(number)}"}
        return await self._told(
            lambda: self.session.get(self.rig.stack.api_url + path, headers=asked)
        )

    async def _told(self, ask: Callable[[], Any]) -> tuple[int, str, dict[str, Any]]:
        """Status, request id and body; 0 where the connection broke."""
        try:
            async with ask() as answer:
                body = await answer.json(content_type=None)
                return answer.status, answer.headers.get("x-request-id", ""), body or {}
        except (aiohttp.ClientError, TimeoutError, ValueError):
            return 0, "", {}


def _code_in(answer: dict[str, Any]) -> str | None:
    """The code of an error, in either surface's form."""
    error = answer.get("error")
    found = error.get("code") if isinstance(error, dict) else answer.get("code")
    return found if isinstance(found, str) else None


def _body(content: str) -> dict[str, Any]:
    messages = [{"role": "user", "content": content}]
    return {"model": SLACK_MODEL, "messages": messages, "service_tier": "flex"}


def _prepare(rig: Rig) -> None:
    """A model that twice as many calls as there is room for may run at, at half its price as flex."""
    with httpx.Client(base_url=rig.stack.admin_url, timeout=30, trust_env=False) as admin:
        backend = {"url": rig.backends[0].url, "max_concurrency": 2 * ROOM}
        admin.put("/backends/slack", json=backend).raise_for_status()
        price = {**COST, "tiers": {"flex": {"multiplier": "0.5"}}}
        target = {"backend": "slack", "upstream_model": MODEL}
        model = {"backends": [target], "prices": [price], "default_max_output_tokens": 64}
        admin.put(f"/models/{SLACK_MODEL}", json=model).raise_for_status()


async def _kill(rig: Rig, roles: Sequence[str], say: Callable[[str], None]) -> list[str]:
    """Each process once; who did not come back."""
    lost = []
    for role in roles:
        strike = await rig.strike(role)
        say(f"killed {role}, back after {strike.back_after_s and round(strike.back_after_s, 1)} s")
        lost += [role] if strike.back_after_s is None else []
        await asyncio.sleep(BETWEEN_KILLS_S)
    return lost


async def _run(rig: Rig, roles: Sequence[str], say: Callable[[str], None]) -> list[str]:
    _prepare(rig)
    connector, timeout = aiohttp.TCPConnector(limit=0), aiohttp.ClientTimeout(total=DEADLINE_S + 60)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        clients, is_over = Clients(rig, session), asyncio.Event()
        await clients._ask(0)
        clients.latencies.clear()
        interactive = asyncio.create_task(clients.interact(is_over))
        await asyncio.sleep(BEFORE_S)
        flex_s = time.monotonic()
        asked: list[Awaitable[None]] = [
            (clients.wait_for_flex if number % 2 else clients.wait_for_job)(number)
            for number in range(REQUESTS)
        ]
        flex = asyncio.gather(*asked)
        await asyncio.sleep(BEFORE_S)
        kills_s, kills_ms = time.monotonic(), time.time() * 1_000
        lost = await _kill(rig, roles, say)
        await flex
        say(f"all ended {time.monotonic() - flex_s:.0f} s after the first was sent")
        is_over.set()
        await interactive
    phases = [
        ("without flex", 0.0, flex_s),
        ("with flex", flex_s, kills_s),
        ("while killing", kills_s, 1e12),
    ]
    for name, begin_s, end_s in phases:
        say(f"interactive {name}: {_summary(clients, begin_s, end_s)}")
    say(f"flex ends: {dict(Counter(each.how for each in clients.ended))}")
    evidence = await asyncio.to_thread(gather, rig, ())
    return [
        *(f"{role} did not come back" for role in lost),
        *_judge(clients, evidence, kills_ms, say),
    ]


def _summary(clients: Clients, begin_s: float, end_s: float) -> str:
    said = [each for each in clients.latencies if begin_s <= each[0] < end_s]
    took_ms = sorted(1_000 * took for _, took, status in said if status == 200)
    cuts = statistics.quantiles(took_ms, n=100) if len(took_ms) > 1 else [0.0] * 99
    others = {status: n for status, n in Counter(s for *_, s in said).items() if status != 200}
    return (
        f"{len(said)} requests, p50 {cuts[49]:.0f} ms, p95 {cuts[94]:.0f} ms, not answered {others}"
    )


def _judge(
    clients: Clients, evidence: Evidence, kills_ms: float, say: Callable[[str], None]
) -> list[str]:
    """What is not as promised."""
    ids = {each.request_id for each in clients.ended if each.request_id}
    findings = [
        f"{each.request_id or 'one without an id'} ended as {each.how} after {each.after_s:.0f} s"
        for each in clients.ended
        if each.how not in ("completed", _NO_ROOM) or each.after_s > DEADLINE_S + GRACE_S
    ]
    if len(ids) != REQUESTS:
        findings.append(f"{REQUESTS} requests have {len(ids)} ids")
    outcomes = {o.request_id: o for o in evidence.outcomes if o.request_id in ids}
    findings += [f"{lost} has no outcome" for lost in ids - outcomes.keys()]
    lines = Counter(line.usage_id for line in evidence.usage if line.request_id in ids)
    wanted = {f"{o.request_id}:{attempt}:0" for o in outcomes.values() for attempt in o.attempts}
    findings += [f"no usage line {usage_id}" for usage_id in wanted - lines.keys()]
    originals = {usage_id for usage_id in lines if usage_id.endswith(":0")}
    findings += [f"a usage line too many {usage_id}" for usage_id in originals - wanted]
    calls = [call for call in evidence.calls if call.start.request_id in ids]
    per_request = Counter(call.start.request_id for call in calls)
    findings += [
        f"{request_id} was called {n} times" for request_id, n in per_request.items() if n > 2
    ]
    again = sum(n > 1 for n in per_request.values())
    # A backend answers on to a dispatcher that was killed: those are under way, too, and nobody waits for them.
    before = _most_at_once([call for call in calls if call.start.at_ms < kills_ms])
    if before > ROOM:
        findings.append(f"{before} at once, with room for {ROOM}")
    held = {key: n for key, n in evidence.ledger.held.items() if n}
    say(
        f"{len(calls)} calls of {len(per_request)} requests, {again} of them called again after a kill; {before} at once at"
        f" most before the kills, {_most_at_once(calls)} with calls whose dispatcher was killed; {len(originals)} usage lines;"
        f" ledger and log differ by {evidence.ledger.difference}, still held {held}"
    )
    if evidence.ledger.difference:
        findings.append(f"ledger and log differ by {evidence.ledger.difference}")
    findings += [f"{each} {n} stayed" for each, n in held.items()]
    return findings


def _most_at_once(calls: Sequence[Call]) -> int:
    """Most calls under way together, by the backend's own log."""
    steps = [(call.start.at_ms, 1) for call in calls]
    steps += [(call.end.at_ms, -1) for call in calls if call.end is not None]
    most = now = 0
    for _, step in sorted(steps):
        now += step
        most = max(most, now)
    return most


def main() -> int:
    """Run it on a stack of its own."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--roles", default=",".join(ROLES), help="whom to kill, in this order")
    options.add_argument("--folder", type=Path, help="keeps logs and state there")
    chosen = options.parse_args()
    folder = chosen.folder or Path(tempfile.mkdtemp(prefix="tallygate-flex-slack-"))
    folder.mkdir(parents=True, exist_ok=True)
    began_s = time.monotonic()

    def say(what: str) -> None:
        print(f"{time.monotonic() - began_s:6.1f} s  {what}", flush=True)

    say(f"logs under {folder}")
    with running_rig(folder) as rig:
        findings = asyncio.run(_run(rig, [r for r in chosen.roles.split(",") if r], say))
    for finding in findings:
        say(f"FOUND {finding}")
    say("clean" if not findings else f"{len(findings)} findings")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
