"""What harms batches from outside, on a whole stack with two processes of them, while somebody waits for answers on connections.

The folder of files goes away in the middle; the owner of a batch is killed; an organization is at its limit; another has as many
batches as may be, beside somebody with a small one. Exit code 1 when anything is wrong.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import aiohttp
import httpx
import openai

from tests.chaos.batch_under_load import Interactive, begin, finished, judge
from tests.chaos.ceilings import Tenant
from tests.chaos.rig import ORGS, Rig, running_rig
from tests.support.harness.gateway_client import GatewayClient
from tests.support.harness.grants import Grant

_PROCESSES: Final = ("batches-0", "batches-1")
_AWAY_S: Final = 8.0
_LINES: Final = 300
_MANY: Final = 32
_TAKEN_OVER_S: Final = 30.0
"""As docs/batches.md says."""
_WITHIN_S: Final = 300.0
_LIMITED: Final = {"requests_per_s": 2, "burst": 2, "on_limit": "reject"}


def sdk(rig: Rig, grant: Grant) -> openai.OpenAI:
    """OpenAI's own client, which tries again."""
    return openai.OpenAI(base_url=rig.stack.api_url, api_key=grant.key, max_retries=5)


@dataclass
class Scenes:
    """What happens on the stack, and the batches that are judged when nothing happens any more."""

    rig: Rig
    ended: list[tuple[Grant, Any, int]] = field(default_factory=list)
    """Whose, the batch and how many lines it has."""

    async def ended_well(self, grant: Grant, batch: str, lines: int) -> list[str]:
        """What is wrong with a batch once it ended, before it is judged."""
        found = await finished(sdk(self.rig, grant), batch, _WITHIN_S)
        self.ended.append((grant, found, lines))
        return [] if found.status == "completed" else [f"{batch} is {found.status}"]

    def judge(self) -> Iterator[str]:
        """What is wrong with results and bills."""
        for grant, batch, lines in self.ended:
            client = sdk(self.rig, grant)
            yield from judge(self.rig, grant.org, client, batch, lines)

    async def files_away(self) -> list[str]:
        """The folder is moved away, as one that is not mounted any more, and back."""
        rig = self.rig
        grant, wrong = rig.grants[0], list[str]()
        batch = await asyncio.to_thread(begin, sdk(rig, grant), _LINES)
        await asyncio.sleep(6)
        files, elsewhere = rig.state_dir / "files", rig.state_dir / "elsewhere"
        await asyncio.to_thread(files.rename, elsewhere)
        await asyncio.sleep(_AWAY_S / 2)
        async with httpx.AsyncClient(trust_env=False) as http:
            headers = {"authorization": f"Bearer {grant.key}"}
            asked = await http.get(f"{rig.stack.api_url}/batches/{batch}", headers=headers)
            pages = [await http.get(url_of(rig, name, "/readyz")) for name in _PROCESSES]
            ready = await http.get(f"{rig.stack.api_url}/status/readyz")
        await asyncio.sleep(_AWAY_S / 2)
        await asyncio.to_thread(elsewhere.rename, files)
        told = [page.json()["components"]["files"] for page in pages]
        print(f"  away: a batch is answered {asked.status_code}; files is {told}", flush=True)
        if asked.status_code != httpx.codes.SERVICE_UNAVAILABLE:
            wrong.append(f"a batch whose files are away was answered {asked.status_code}")
        if any("is no folder" not in each for each in told):
            wrong.append(f"readiness told {told}")
        if ready.status_code != httpx.codes.OK:
            wrong.append("ingress was not ready without files")
        return [*wrong, *await self.ended_well(grant, batch, _LINES)]

    async def owner_killed(self) -> list[str]:
        """The other process takes the batch over."""
        rig = self.rig
        grant = rig.grants[1]
        batch = await asyncio.to_thread(begin, sdk(rig, grant), _LINES)
        await asyncio.sleep(5)
        busy = max(
            _PROCESSES, key=lambda name: figure(rig, name, 'tallygate_batch_lines{error_type=""}')
        )
        os.kill(int(pid_of(rig, busy)), signal.SIGKILL)
        begun_s = time.monotonic()
        for _ in range(int(2 * _TAKEN_OVER_S)):
            if sum(figure(rig, name, "tallygate_batch_takeovers_total") for name in _PROCESSES):
                break
            await asyncio.sleep(0.5)
        else:
            return [f"nobody went on where {busy} was killed"]
        print(
            f"  {busy} was killed; taken over after {time.monotonic() - begun_s:.1f} s", flush=True
        )
        return await self.ended_well(grant, batch, _LINES)

    async def at_its_limit(self) -> list[str]:
        """Its lines are tried until they find room, and metrics tell so."""
        rig = self.rig
        grant, lines = rig.grants[2], 40
        async with httpx.AsyncClient(base_url=rig.stack.admin_url, trust_env=False) as admin:
            (await admin.put(f"/orgs/{grant.org}", json={"limits": _LIMITED})).raise_for_status()
        batch = await asyncio.to_thread(begin, sdk(rig, grant), lines)
        waits = 'tallygate_batch_lines{error_type="RATE_LIMIT_EXCEEDED"}'
        most = 0.0
        for _ in range(10):
            await asyncio.sleep(1)
            most = max(most, *(figure(rig, name, waits) for name in _PROCESSES))
        print(
            f"  at its limit: up to {most:.0f} lines waited after RATE_LIMIT_EXCEEDED", flush=True
        )
        wrong = await self.ended_well(grant, batch, lines)
        return wrong if most else [*wrong, "no metric told of lines that wait for a limit"]

    async def small_beside_many(self) -> list[str]:
        """The small one ends while the many go on; one more than may be is refused."""
        rig = self.rig
        large, small, wrong = rig.grants[3], rig.grants[ORGS], list[str]()
        client = sdk(rig, large)
        many = [await asyncio.to_thread(begin, client, 200) for _ in range(_MANY)]
        try:
            await asyncio.to_thread(begin, client.with_options(max_retries=0), 1)
            wrong.append("a batch more than may be open was taken")
        except openai.RateLimitError:
            pass
        begun_s = time.monotonic()
        batch = await asyncio.to_thread(begin, sdk(rig, small), 20)
        wrong += await self.ended_well(small, batch, 20)
        took_s = time.monotonic() - begun_s
        found = [await asyncio.to_thread(client.batches.cancel, each) for each in many]
        left = sum(each.status != "completed" for each in found)
        print(
            f"  the small one took {took_s:.1f} s; {left} of {_MANY} others had not ended",
            flush=True,
        )
        if left < _MANY // 2:
            wrong.append("the small one waited for the many")
        for each in many:
            await finished(client, each, _WITHIN_S)
        return wrong


def url_of(rig: Rig, name: str, path: str) -> str:
    """A status page of a process."""
    return f"http://127.0.0.1:{rig.port_of(name)}{path}"


def figure(rig: Rig, name: str, sample: str) -> float:
    """A sample of its metrics; 0 where there is none, or no process."""
    try:
        page = httpx.get(url_of(rig, name, "/metrics"), timeout=5, trust_env=False).text
    except httpx.HTTPError:
        return 0.0
    return next(
        (float(line.split()[-1]) for line in page.splitlines() if line.startswith(f"{sample} ")),
        0.0,
    )


def pid_of(rig: Rig, name: str) -> int:
    """The process of a name, by its data folder."""
    for pid in rig.pids_of("batches"):
        told = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        if f"TALLYGATE_INSTANCE_ID={name}".encode() in told:
            return pid
    raise SystemExit(f"{name} does not run")


SCENES: Final[dict[str, Callable[[Scenes], Awaitable[list[str]]]]] = {
    "files are away": Scenes.files_away,
    "the owner is killed": Scenes.owner_killed,
    "an organization is at its limit": Scenes.at_its_limit,
    "a small batch beside many": Scenes.small_beside_many,
}


async def run(rig: Rig) -> list[str]:
    """All scenes beside somebody who waits on connections; what is wrong."""
    asking, scenes, wrong = rig.grants[-1], Scenes(rig), list[str]()
    timeout, connector = aiohttp.ClientTimeout(total=60), aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        interactive = Interactive(GatewayClient(session, rig.stack.api_url), asking.key)
        sending = asyncio.create_task(interactive.run())
        try:
            for name, scene in SCENES.items():
                print(name, flush=True)
                wrong += [f"{name}: {each}" for each in await scene(scenes)]
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
    print(f"interactive: {dict(interactive.statuses)}")
    if set(interactive.statuses) != {200}:
        wrong.append("whoever waits on connections noticed")
    return [*wrong, *await asyncio.to_thread(lambda: list(scenes.judge()))]


def main() -> int:
    """Run, report."""
    folder = Path(tempfile.mkdtemp(prefix="tallygate-batch-enemies-"))
    print(f"logs under {folder}", flush=True)
    more = (Tenant("small", "nano_usd", 10**12), Tenant("waits", "nano_usd", 10**12))
    with running_rig(folder, more, replicas={"batches": len(_PROCESSES)}) as rig:
        wrong = asyncio.run(run(rig))
    print("\n".join(wrong) or "nothing is wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
