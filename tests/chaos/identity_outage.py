"""An identity provider and a user-org service, each killed and then slowed under 50 requests a second.

Run as `python -m tests.chaos.identity_outage`: prints a table, second by second, of what clients saw: users with tokens,
callers whom the service knows, strangers to it, tokens under invented keys, and a neighbour with an API key. Exit code 1
when somebody saw what was not promised. Bounded: 80 s after the start of its stack.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import aiohttp
import httpx

from tests.support.fakes.running_backend import RunningBackend, running_backend
from tests.support.fakes.user_org_service import TOKEN
from tests.support.harness.identity_provider import RunningProvider, free_port, running_provider
from tests.support.harness.running_stack import RunningStack, running_stack
from tests.support.harness.user_org import RunningService, running_user_org
from tests.support.tokens import RsaSigner

FRESH_S, STALE_S, TIMEOUT_S = 3.0, 6.0, 1.0
USERS: Final = [f"user-{n}" for n in range(10)]
KNOWN: Final = [f"corp_known-{n}" for n in range(10)]
PER_S: Final = {"token": 20, "known": 10, "stranger": 2, "invented": 2, "api key": 16}
SLOW_S: Final = 3.0
_CALLERS: Final = f"""
[[oidc]]
name = "corp"
issuer = "{{issuer}}"
audience = "tallygate"
org = "acme"
id_tokens = true

[user_org]
url = "{{user_org}}"
credential_prefixes = ["corp_"]
timeout_s = {TIMEOUT_S}
fresh_s = {FRESH_S}
unknown_s = 1
stale_s = {STALE_S}
"""
_CHAT: Final = {"model": "echo", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 4}
_PHASES: Final = (
    (4, "calm"),
    (10, "provider killed"),
    (8, "provider back, with a new key"),
    (8, "provider slowed"),
    (4, "calm"),
    (14, "user-org killed"),
    (5, "user-org back"),
    (10, "user-org slowed"),
    (6, "calm"),
)


@dataclass
class Rig:
    """What runs, and how it is killed and slowed."""

    folder: Path
    running: ExitStack
    provider_port: int
    user_org_port: int
    backend: RunningBackend
    provider: RunningProvider
    user_org: RunningService
    stack: RunningStack
    callers: dict[str, Any]

    def restart_provider(self) -> None:
        """On its port; it makes a new key."""
        self.provider = self.running.enter_context(_provider(self.folder, self.provider_port))

    def restart_user_org(self) -> None:
        """On its port."""
        self.user_org = self.running.enter_context(
            running_user_org(self.folder, self.user_org_port, **self.callers)
        )


def _provider(folder: Path, port: int) -> Any:
    return running_provider(folder / "provider.log", [{"sub": user} for user in USERS], port)


@dataclass
class Driver:
    """Sends requests at their times, whatever became of those before."""

    url: str
    rig: Rig
    session: aiohttp.ClientSession
    tokens: dict[str, str]
    seen: dict[tuple[int, str], list[tuple[int, float]]] = field(
        default_factory=lambda: defaultdict(list)
    )
    began_s: float = 0.0
    logging_in: set[str] = field(default_factory=set)

    async def run(self, seconds: int) -> None:
        """All of it."""
        loop = asyncio.get_running_loop()
        self.began_s = loop.time()
        turns = itertools.cycle(_turns())
        sending = set()
        for n in range(seconds * 50):
            await asyncio.sleep(max(0.0, self.began_s + n / 50 - loop.time()))
            sending.add(asyncio.create_task(self._send(next(turns), n)))
        await asyncio.gather(*sending)

    async def _send(self, kind: str, n: int) -> None:
        loop = asyncio.get_running_loop()
        sent_s, user = loop.time(), USERS[n % len(USERS)]
        headers = {"authorization": f"Bearer {self._credential(kind, n, user)}"}
        try:
            async with self.session.post(self.url, json=_CHAT, headers=headers) as answer:
                await answer.read()
                status = answer.status
        except (aiohttp.ClientError, TimeoutError):
            status = 0
        at = int(sent_s - self.began_s)
        self.seen[at, kind].append((status, loop.time() - sent_s))
        if kind == "token" and status == 401:
            await self._log_in(user)

    async def _log_in(self, user: str) -> None:
        """As a client does whose token is not taken any more."""
        if user in self.logging_in:
            return
        self.logging_in.add(user)
        try:
            self.tokens[user] = await asyncio.to_thread(self.rig.provider.token, user)
        except (httpx.HTTPError, ValueError, KeyError):
            pass
        finally:
            self.logging_in.discard(user)

    def _credential(self, kind: str, n: int, user: str) -> str:
        match kind:
            case "token":
                return self.tokens[user]
            case "known":
                return KNOWN[n % len(KNOWN)]
            case "stranger":
                return f"corp_stranger-{n}"
            case "invented":
                said = {"iss": self.rig.provider.issuer, "aud": "tallygate", "sub": "x"}
                return _INVENTED.token(said | {"exp": 2**33}, kid=f"invented-{n}")
            case _:
                return self.rig.stack.first_key


_INVENTED: Final = RsaSigner()


def _turns() -> list[str]:
    """Fifty turns, each kind spread over them."""
    places = [(i / count, kind) for kind, count in PER_S.items() for i in range(count)]
    return [kind for _, kind in sorted(places)]


async def _nemesis(rig: Rig) -> None:
    """Kill and slow, phase by phase; as many seconds as the phases say."""
    for seconds, what in _PHASES:
        ends_s = asyncio.get_running_loop().time() + seconds
        match what:
            case "provider killed":
                rig.provider.process.kill()
            case "provider back, with a new key":
                await asyncio.to_thread(rig.restart_provider)
            case "provider slowed":
                await _pulse(rig.provider, ends_s)
            case "user-org killed":
                rig.user_org.process.kill()
            case "user-org back":
                await asyncio.to_thread(rig.restart_user_org)
            case "user-org slowed":
                rig.user_org.set(**rig.callers, delay_s=SLOW_S)
            case _:
                rig.user_org.set(**rig.callers)
        await asyncio.sleep(max(0.0, ends_s - asyncio.get_running_loop().time()))


async def _pulse(provider: RunningProvider, ends_s: float) -> None:
    """It runs a tenth of each second."""
    while asyncio.get_running_loop().time() < ends_s:
        provider.pause()
        await asyncio.sleep(0.9)
        provider.resume()
        await asyncio.sleep(0.1)


def _opened(folder: Path) -> Iterator[Rig]:
    strangers = {f"corp_stranger-{n}": {"org": "globex"} for n in range(80 * 50)}
    known = {name: {"org": "globex", "key": name[5:]} for name in KNOWN}
    callers = {"credentials": strangers | known}
    with ExitStack() as running:
        backend = running.enter_context(running_backend("fake-i", folder / "backend.jsonl"))
        provider_port, user_org_port = free_port(), free_port()
        provider = running.enter_context(_provider(folder, provider_port))
        user_org = running.enter_context(running_user_org(folder, user_org_port, **callers))
        path = folder / "callers.toml"
        path.write_text(_CALLERS.format(issuer=provider.issuer, user_org=user_org.url))
        environment = {"TALLYGATE_CALLERS_FILE": str(path), "TALLYGATE_USER_ORG_TOKEN": TOKEN}
        stack = running.enter_context(
            running_stack(folder / "state", [backend], environment=environment)
        )
        _configure(stack, backend)
        yield Rig(
            folder,
            running,
            provider_port,
            user_org_port,
            backend,
            provider,
            user_org,
            stack,
            callers,
        )


def _configure(stack: RunningStack, backend: RunningBackend) -> None:
    with httpx.Client(base_url=stack.admin_url, timeout=30, trust_env=False) as admin:
        targets = {"backends": [{"backend": backend.name, "weight": 1}]}
        admin.put("/models/echo", json=targets).raise_for_status()
        for org in ("acme", "globex"):
            admin.put(f"/orgs/{org}", json={}).raise_for_status()


@asynccontextmanager
async def _driver(rig: Rig) -> AsyncIterator[Driver]:
    tokens = {user: rig.provider.token(user) for user in USERS}
    timeout = aiohttp.ClientTimeout(total=15)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session:
        yield Driver(f"{rig.stack.api_url}/chat/completions", rig, session, tokens)


def _told(driver: Driver, second: int, kind: str) -> str:
    seen = driver.seen[second, kind]
    counts = Counter(status for status, _ in seen)
    slowest_ms = max((took_s for _, took_s in seen), default=0.0) * 1_000
    statuses = " ".join(f"{counts[status]}x{status}" for status in sorted(counts))
    return f"{statuses} {slowest_ms:.0f}ms"


def _table(driver: Driver, seconds: int) -> None:
    print("| s | phase | " + " | ".join(PER_S) + " |")
    print("|---" * (len(PER_S) + 2) + "|")
    phases = [what for length, what in _PHASES for _ in range(length)]
    for second in range(seconds):
        cells = " | ".join(_told(driver, second, kind) for kind in PER_S)
        print(f"| {second} | {phases[second]} | {cells} |")


def _findings(driver: Driver) -> list[str]:
    """What was not promised."""
    statuses: dict[str, Counter[int]] = defaultdict(Counter)
    slowest_s: dict[str, float] = defaultdict(float)
    for (_, kind), seen in driver.seen.items():
        statuses[kind].update(status for status, _ in seen)
        slowest_s[kind] = max([slowest_s[kind], *(took_s for _, took_s in seen)])
    promised = {
        "token": {200, 401},  # 401 once its key is gone from the provider: its user logs in again
        "known": {200, 503},
        "stranger": {200, 503},
        "invented": {401},
        "api key": {200},
    }
    wrong = [
        f"{kind}: {dict(counts)} is not within {sorted(promised[kind])}"
        for kind, counts in statuses.items()
        if not set(counts) <= promised[kind]
    ]
    if slowest_s["api key"] > 1.0:
        wrong.append(f"api key: {slowest_s['api key']:.2f} s")
    first = [status for s in range(14) for status, _ in driver.seen[s, "token"]]
    if set(first) != {200}:
        wrong.append("token: not all were served while the provider was away")
    last = _PHASES[-1][0]
    end = sum(length for length, _ in _PHASES)
    for kind in ("token", "known", "stranger", "api key"):
        final = {status for s in range(end - last + 3, end) for status, _ in driver.seen[s, kind]}
        if final != {200}:
            wrong.append(f"{kind}: not all well in the end: {sorted(final)}")
    return wrong


async def _run(rig: Rig) -> int:
    seconds = sum(length for length, _ in _PHASES)
    async with _driver(rig) as driver:
        await asyncio.gather(driver.run(seconds), _nemesis(rig))
        _table(driver, seconds)
        wrong = _findings(driver)
    invented = sum(len(seen) for (_, kind), seen in driver.seen.items() if kind == "invented")
    asked = (rig.folder / "provider.log").read_text().count("GET /jwks")
    print(
        f"\n{invented} tokens under invented keys; the provider was asked for its keys {asked} times"
    )
    print("\n".join(wrong) if wrong else "as promised")
    return 1 if wrong else 0


def main() -> int:
    """Run it once."""
    with tempfile.TemporaryDirectory() as folder:
        for rig in _opened(Path(folder)):
            return asyncio.run(_run(rig))
    return 1


if __name__ == "__main__":
    sys.exit(main())
