"""Sends very many hostile requests to a running gateway, and looks at what a neighbour sees meanwhile.

    python -m tests.fuzz.requests --requests 100000 --seed 1

starts a stack of its own, or takes `--url`, `--key` and `--neighbour-key`. It fails on a 5xx of our own
making, on a connection that neither ends nor is answered, on a process that was started again, and on a
neighbour whose request is not answered 200.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Final

import aiohttp

from tests.fuzz.request_bytes import raw_request
from tests.support.harness.scene import HEALTHY_MODEL, running_scene

_CONNECTIONS: Final = 200
_HANG_AFTER_S: Final = 25.0
"""Heads have 10 s, bodies earn at most 30 by arriving; a small one that stops has 5."""
_LEAVES_EARLY: Final = 0.2
"""The share of connections whose client does not stay to read."""
_PROBE_EVERY_S: Final = 0.25
_OWN_FAULT: Final = 500
_OVERLOADED: Final = 503
_TOO_LATE: Final = "504"


@dataclass
class Findings:
    """What came back."""

    answers: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    probes_ms: list[float] = field(default_factory=list)
    probe_failures: int = 0

    def note(self, number: int, answer: bytes, raw: bytes) -> None:
        """One answer."""
        status = answer[9:12].decode("ascii", "replace") if answer else "closed"
        self.answers[status] += 1
        is_ours = status.isdigit() and int(status) >= _OWN_FAULT and int(status) != _OVERLOADED
        if status == _TOO_LATE and b"x-request-timeout" in raw.lower():
            is_ours = False  # It asked for no time at all.
        if is_ours or (answer and not answer.startswith(b"HTTP/1.1 ")):
            self.faults.append(f"#{number}: {answer[:200]!r} to {raw[:300]!r}")

    @property
    def is_good(self) -> bool:
        """Whether nothing was found."""
        return not self.faults and not self.probe_failures

    def lines(self) -> list[str]:
        """For the reader."""
        probes = sorted(self.probes_ms) or [0.0]
        return [
            "answers  " + ", ".join(f"{n} {c}" for n, c in sorted(self.answers.items())),
            (
                f"neighbour  {len(probes)} requests, {self.probe_failures} failed, "
                f"p50 {probes[len(probes) // 2]:.0f} ms, max {probes[-1]:.0f} ms"
            ),
            f"faults  {len(self.faults)}",
            *self.faults[:20],
        ]


@dataclass(frozen=True)
class Aim:
    """Where to send, and as whom."""

    url: str
    key: str
    neighbour_key: str
    model: str

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        host, _, port = self.url.split("://")[1].partition("/")[0].partition(":")
        return host, int(port or 80)


async def fuzz(aim: Aim, requests: int, seed: int) -> Findings:
    """Send them all; every request can be made again from the seed and its number."""
    findings = Findings()
    numbers = iter(range(requests))

    async def client() -> None:
        for number in numbers:
            chance = Random(f"{seed}:{number}")
            raw = raw_request(chance, aim.key.encode(), aim.model.encode())
            stays = chance.random() >= _LEAVES_EARLY
            try:
                async with asyncio.timeout(_HANG_AFTER_S):
                    findings.note(number, await _exchange(aim, raw, stays=stays), raw)
            except TimeoutError:
                findings.faults.append(f"#{number}: hangs, {raw[:300]!r}")

    prober = asyncio.create_task(_probe(aim, findings))
    try:
        await asyncio.gather(*(client() for _ in range(_CONNECTIONS)))
    finally:
        prober.cancel()
    return findings


async def _exchange(aim: Aim, raw: bytes, *, stays: bool) -> bytes:
    """What comes back first; nothing when the server hangs up, or when we do."""
    reader, writer = await asyncio.open_connection(*aim.address)
    try:
        writer.write(raw)
        if not stays:
            return b"HTTP/1.1 ..."
        answer = await reader.read(4_096)
        while answer.startswith(b"HTTP/1.1 100 ") and len(answer) < 30:
            answer = await reader.read(4_096)
        return answer
    except ConnectionError:
        return b""
    finally:
        writer.transport.abort()


async def _probe(aim: Aim, findings: Findings) -> None:
    """A neighbour asks as if nothing were going on."""
    body = {"model": aim.model, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 2}
    headers = {"authorization": f"Bearer {aim.neighbour_key}"}
    timeout = aiohttp.ClientTimeout(total=10)
    async with aiohttp.ClientSession(timeout=timeout, headers=headers) as session:
        while True:
            begun_s = time.perf_counter()
            try:
                async with session.post(f"{aim.url}/chat/completions", json=body) as answer:
                    await answer.read()
                    is_good = answer.status == 200
            except (aiohttp.ClientError, TimeoutError):
                is_good = False
            findings.probe_failures += not is_good
            findings.probes_ms.append((time.perf_counter() - begun_s) * 1000)
            await asyncio.sleep(_PROBE_EVERY_S)


async def _with_own_stack(requests: int, seed: int) -> tuple[Findings, bool]:
    """Start a stack; also whether every process is still the one that was started."""
    with tempfile.TemporaryDirectory(prefix="tallygate-fuzz-") as folder:
        async with running_scene(Path(folder), {}) as scene:
            loud, quiet = await scene.tenant("fuzzed"), await scene.tenant("neighbour")
            aim = Aim(scene.url, loud.key, quiet.key, HEALTHY_MODEL)
            return await _watched(aim, requests, seed, scene.pids)


async def _watched(
    aim: Aim, requests: int, seed: int, pids: Callable[[], Mapping[str, int]]
) -> tuple[Findings, bool]:
    before = dict(pids())
    findings = await fuzz(aim, requests, seed)
    return findings, dict(pids()) == before


def main() -> int:
    """Read the command line, run, print what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--url", help="what OPENAI_BASE_URL would be; without it a stack is started"
    )
    parser.add_argument("--key", default="")
    parser.add_argument("--neighbour-key", default="")
    parser.add_argument("--model", default=HEALTHY_MODEL)
    options = parser.parse_args()
    begun_s = time.perf_counter()
    if options.url is None:
        run = _with_own_stack(options.requests, options.seed)
    else:
        aim = Aim(options.url, options.key, options.neighbour_key, options.model)
        run = _watched(aim, options.requests, options.seed, dict)
    findings, is_same = asyncio.run(run)
    print(
        f"{options.requests} requests, seed {options.seed}, {time.perf_counter() - begun_s:.0f} s"
    )
    print("\n".join(findings.lines()))
    print("restarts  none" if is_same else "restarts  SOME")
    return 0 if findings.is_good and is_same else 1


if __name__ == "__main__":
    sys.exit(main())
