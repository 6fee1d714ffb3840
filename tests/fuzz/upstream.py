"""Fuzzes the upstream reader: `python -m tests.fuzz.upstream --answers 100000 --seed N`.

Drives the real `Upstreams` and `AttemptRun` against a loopback server that answers mutated bytes. Every
call must end in time with a typed result; nothing may be raised, logged by the event loop, or leak. The
exit status is 1 otherwise, with the numbers of the answers: `--only N` repeats one.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import resource
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import uvloop

from dispatcher.attempts.attempt_end import AttemptResult
from dispatcher.attempts.token_counts import TokenCounter
from dispatcher.upstream.upstreams import Upstreams
from tests.support.attempt_scene import FakeBus, asking_for, attempt_run
from tests.support.events import NOW_MS
from tests.support.mutations import Answer, answer
from tests.support.scripted_backend import choice_of, upstreams

SILENCE_S = 0.5
LATE_S = 2.0
"""How much later than the silence limit a call may end on a machine with other work."""
CALLS_AT_ONCE = 32
SLOWEST_SHOWN = 3


class MutatingServer(asyncio.Protocol):
    """One connection: reads a request whose model is the answer's number, and gives that answer."""

    seed = 0
    open: set[MutatingServer] = set()  # noqa: RUF012  # of all connections

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.received = bytearray()
        self.open.add(self)

    def connection_lost(self, error: Exception | None) -> None:
        self.open.discard(self)

    def data_received(self, data: bytes) -> None:
        self.received += data
        head, found, body = self.received.partition(b"\r\n\r\n")
        if not found:
            return
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n")[0])
        if len(body) >= length:
            self.received = bytearray(body[length:])
            self._answer(answer(self.seed, int(json.loads(body[:length])["model"])))

    def _answer(self, planned: Answer) -> None:
        first, *more = planned.pieces
        self.transport.write(first)
        if more:
            asyncio.get_running_loop().call_later(0.002, self._finish, more[0], planned)
        else:
            self._finish(b"", planned)

    def _finish(self, rest: bytes, planned: Answer) -> None:
        if self.transport.is_closing():
            return
        self.transport.write(rest)
        if planned.end == "close":
            self.transport.close()
        elif planned.end == "reset":
            self.transport.abort()


@dataclass
class Findings:
    """What came out."""

    endings: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    durations_s: list[tuple[float, int]] = field(default_factory=list)

    def ended(self, number: int, result: AttemptResult, took_s: float) -> None:
        """One call ended; a call may last a little longer than its silence limit, and no more."""
        self.endings[str(result.ending.code or "completed")] += 1
        self.durations_s.append((took_s, number))
        if took_s > SILENCE_S + LATE_S:
            self.faults.append(f"answer {number} took {took_s:.2f} s")
        if result.attempt.provider_id is not None and len(result.attempt.provider_id) > 128:
            self.faults.append(f"answer {number}: an id of {len(result.attempt.provider_id)}")


async def _call(client: Upstreams, url: str, counter: TokenCounter, seed: int, number: int) -> Any:
    request = asking_for(
        str(number),
        stream=answer(seed, number).stream,
        include_usage=number % 3 == 0,
        deadline_ms=NOW_MS + 60_000,
    )
    choice = choice_of(url, timeout_s=SILENCE_S)
    return await attempt_run(client, choice, request, FakeBus(), counter=counter).run()


async def _worker(
    numbers: list[int], client: Upstreams, url: str, seed: int, found: Findings
) -> None:
    counter = TokenCounter()
    while numbers:
        number = numbers.pop()
        began_s = time.monotonic()
        try:
            result = await _call(client, url, counter, seed, number)
        except Exception as error:  # noqa: BLE001  # the very thing that is looked for
            found.faults.append(f"answer {number} raised {error!r}")
            continue
        found.ended(number, result, time.monotonic() - began_s)


async def fuzz(numbers: list[int], seed: int) -> Findings:
    """Make all calls; what was found, leaks included."""
    found, loop = Findings(), asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: found.faults.append(f"loop: {context}"))
    MutatingServer.seed = seed
    server = await loop.create_server(MutatingServer, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    before, files = len(asyncio.all_tasks()), _open_files()
    async with upstreams() as client:
        await asyncio.gather(
            *(_worker(numbers, client, url, seed, found) for _ in range(CALLS_AT_ONCE))
        )
        await asyncio.sleep(0.2)
        if (tasks := len(asyncio.all_tasks())) > before:
            found.faults.append(f"{tasks - before} tasks are left")
        if busy := client.connections.busy:
            found.faults.append(f"{busy} connections were never given back")
    await asyncio.sleep(0.2)
    if MutatingServer.open:
        found.faults.append(f"{len(MutatingServer.open)} connections are left open")
    server.close()
    await asyncio.sleep(0)
    if _open_files() > files + 1:
        found.faults.append(f"{_open_files() - files} files are left open")
    return found


def _open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def main() -> int:
    """Read the command line, fuzz, print counts, rate and faults."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--answers", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--only", type=int)
    options = parser.parse_args()
    logging.disable(logging.CRITICAL if options.only is None else logging.NOTSET)
    numbers = [options.only] if options.only is not None else list(range(options.answers))
    count, began_s = len(numbers), time.monotonic()
    found = uvloop.run(fuzz(numbers, options.seed))
    took_s = time.monotonic() - began_s
    cpu = resource.getrusage(resource.RUSAGE_SELF)
    print(f"{count} answers, seed {options.seed}: {took_s:.0f} s, {count / took_s:.0f}/s, ", end="")
    print(f"{cpu.ru_utime + cpu.ru_stime:.0f} s of CPU, peak {cpu.ru_maxrss // 1024} MiB")
    for ending, number in found.endings.most_common():
        print(f"  {ending:24} {number}")
    for slowest_s, number in sorted(found.durations_s, reverse=True)[:SLOWEST_SHOWN]:
        print(f"  answer {number} took {slowest_s:.3f} s")
    print(f"faults: {len(found.faults)}")
    for fault in found.faults[:20]:
        print(f"  {fault}")
    return 1 if found.faults else 0


if __name__ == "__main__":
    sys.exit(main())
