"""An ingress is killed under streams of responses in the background, and the openai package goes on at another one.

`python -m tests.chaos.followed_responses`: two ingresses, streams from the first, some of them watched at the second as well,
kill -9 of the first, and each client goes on with `retrieve(id, stream=True, starting_after=n)` at the second. When all have
ended, each is read whole once more. The oracle is the backends' log: one call for each response, and the hash of what it sent;
bills are counted in the log of usage. Exit code 1 when one differs.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import os
import signal
import sys
import tempfile
import uuid
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import openai

from tests.chaos.resumed_streams import STREAMS, evidence_of, pid_of
from tests.chaos.rig import Rig, running_rig
from tests.support.harness.gateway_client import MODEL, steer

_CHUNKS, _EVERY_MS = 60, 150
_KILLED_AFTER_S: Final = 5.0
_WITHIN_S: Final = 120.0
_WATCHED_EACH: Final = 5
"""One of so many has another client from its beginning on, at the ingress that stays."""


@dataclass
class Copy:
    """What one client has of a response."""

    clients: tuple[openai.AsyncOpenAI, openai.AsyncOpenAI]
    """At the ingress that is killed, and at the other."""
    asked: dict[str, Any]
    events: list[Any] = field(default_factory=list)
    watched: list[Any] = field(default_factory=list)
    again: list[Any] = field(default_factory=list)
    breaks: int = 0

    @property
    def id(self) -> str:
        """Of the response."""
        return str(self.events[0].response.id)

    @property
    def request_id(self) -> str:
        """Of its request."""
        return str(uuid.UUID(self.id.removeprefix("resp_")))

    @property
    def text_sha256(self) -> str:
        """Of what the model said, piece by piece."""
        text = "".join(e.delta for e in self.events if e.type == "response.output_text.delta")
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def is_whole(self) -> bool:
        """Whether no event is missing, none came twice, and who came later heard the same."""
        numbers = [event.sequence_number for event in self.events]
        is_counted = numbers == list(range(len(numbers)))
        is_over = self.events[-1].type == "response.completed"
        # Before it began nobody else could tell what it repeats of its request.
        as_watched = not self.watched or self.watched[2:] == self.events[2:]
        return is_counted and is_over and as_watched and self.again == self.events

    async def read(self, *, watches: bool) -> None:
        """Read it to its end, at the other ingress where the first breaks."""
        first, second = self.clients
        other = None
        try:
            async for event in await first.responses.create(**self.asked):
                self.events.append(event)
                if watches and other is None:
                    other = asyncio.create_task(self._watch(self.watched))
        except (openai.APIConnectionError, openai.APIError):
            self.breaks += 1
            after = self.events[-1].sequence_number
            rest = second.responses.retrieve(self.id, stream=True, starting_after=after)
            async for event in await rest:
                self.events.append(event)
        if other is not None:
            await other
        await self._watch(self.again)

    async def _watch(self, seen: list[Any]) -> None:
        stream = await self.clients[1].responses.retrieve(self.id, stream=True)
        seen.extend([event async for event in stream])


async def run(rig: Rig, streams: int) -> list[Copy]:
    """Open them, kill, go on."""
    urls = [f"http://127.0.0.1:{rig.port_of(name)}/v1" for name in ("ingress-0", "ingress-1")]
    async with AsyncExitStack() as open_clients:
        copies, clients = [], {}
        for grant in rig.grants:
            pair = [
                openai.AsyncOpenAI(base_url=url, api_key=grant.key, max_retries=0) for url in urls
            ]
            for client in pair:
                await open_clients.enter_async_context(client)
            clients[grant.key] = (pair[0], pair[1])
        for number in range(streams):
            given = steer(chunks=_CHUNKS, delay_ms=_EVERY_MS, output_tokens=2 * _CHUNKS + number)
            asked = {"model": MODEL, "input": given, "background": True, "stream": True}
            copies.append(Copy(clients[rig.grants[number % len(rig.grants)].key], asked))
        reading = [
            asyncio.create_task(copy.read(watches=number % _WATCHED_EACH == 0))
            for number, copy in enumerate(copies)
        ]
        await asyncio.sleep(_KILLED_AFTER_S)
        os.kill(pid_of(rig, "ingress-0"), signal.SIGKILL)
        await asyncio.gather(*reading)
    return copies


def main() -> int:
    """Read the command line, run, report."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--streams", type=int, default=STREAMS, help="open at once")
    streams = options.parse_args().streams
    with ExitStack() as running:
        folder = running.enter_context(tempfile.TemporaryDirectory(prefix="tallygate-followed-"))
        rig = running.enter_context(running_rig(Path(folder), replicas={"ingress": 2}))
        copies = asyncio.run(asyncio.wait_for(run(rig, streams), _WITHIN_S))
        requests = {copy.request_id for copy in copies}
        bills, calls, sent = evidence_of(rig, requests)
    broken = sum(copy.breaks == 1 for copy in copies)
    whole = sum(copy.is_whole for copy in copies)
    equal = sum(sent.get(copy.request_id) == copy.text_sha256 for copy in copies)
    billed_once = sum(bills[request] == 1 for request in requests)
    print(f"{streams} responses, {broken} broken by kill -9 and gone on with at the other ingress")
    print(
        f"{whole} with every event once, the same when read again; {equal} text hashes as the backend's"
    )
    print(f"{len(calls)} calls of backends, {billed_once} requests with one usage line")
    counts = (broken, whole, equal, len(calls), billed_once, len(requests))
    is_right = counts == (streams,) * len(counts)
    print(f"followed responses: {'CLEAN' if is_right else 'FINDINGS'}", flush=True)
    return 0 if is_right else 1


if __name__ == "__main__":
    sys.exit(main())
