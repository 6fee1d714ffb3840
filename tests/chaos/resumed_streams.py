"""An ingress is killed under open streams, and each goes on at another one, where its client's copy ends.

`python -m tests.chaos.resumed_streams`: two ingresses, streams from the first, kill -9 of it, and each client posts its
body once more to the second, with the id of the last event that it has. The oracle is the backends' log: one call for each
stream, and the hash of what it sent; bills are counted in the log of usage. Exit code 1 when one differs.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import signal
import sys
import tempfile
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

import aiohttp

from schemas.topics import USAGE_RECORDS
from tests.chaos.rig import Rig, running_rig
from tests.support.fakes.call_log import Call
from tests.support.harness.gateway_client import MODEL, steer
from tests.support.harness.kafka_log import KafkaLog, LogRecord
from tests.support.harness.running_stack import descendants

STREAMS: Final = 50
_CHUNKS, _EVERY_MS = 60, 150
_KILLED_AFTER_S: Final = 4.0
_WITHIN_S: Final = 120.0
_BILLED_WITHIN_S: Final = 30.0


@dataclass
class Copy:
    """What one client has of its stream: whole events only."""

    body: dict[str, Any]
    key: str
    request_id: str = ""
    events: list[bytes] = field(default_factory=list)
    breaks: int = 0

    @property
    def last_id(self) -> str | None:
        """Of the last event that has one."""
        ids = [
            line[4:] for each in self.events for line in each.split(b"\n") if line[:4] == b"id: "
        ]
        return ids[-1].decode() if ids else None

    @property
    def is_whole(self) -> bool:
        """Whether the end mark came."""
        return bool(self.events) and b"data: [DONE]" in self.events[-1].split(b"\n")

    @property
    def text_sha256(self) -> str:
        """Of what the model said."""
        text = ""
        for event in self.events:
            for line in event.split(b"\n"):
                if line.startswith(b"data: {"):
                    choices = json.loads(line[6:])["choices"]
                    text += "".join(choice["delta"].get("content") or "" for choice in choices)
        return hashlib.sha256(text.encode()).hexdigest()

    async def read(self, session: aiohttp.ClientSession, url: str) -> None:
        """Read it, or what is left of it, until it ends or breaks; half an event is none."""
        headers = {"authorization": f"Bearer {self.key}"}
        if (last := self.last_id) is not None:
            headers["last-event-id"] = last
        rest = b""
        try:
            async with session.post(url, json=self.body, headers=headers) as answer:
                if answer.status != 200:
                    raise RuntimeError(f"{answer.status}: {await answer.text()}")
                self.request_id = answer.headers["x-request-id"]
                async for piece in answer.content.iter_any():
                    *events, rest = (rest + piece).split(b"\n\n")
                    self.events += events
        except aiohttp.ClientError:
            self.breaks += 1


def pid_of(rig: Rig, instance: str) -> int:
    """The process of an instance."""
    told = f"TALLYGATE_INSTANCE_ID={instance}".encode()
    for pid in descendants(rig.stack.process.pid):
        if told in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
            return pid
    raise AssertionError(f"{instance} does not run")


async def run(rig: Rig, streams: int) -> list[Copy]:
    """Open them, kill, resume."""
    first, second = (
        f"http://127.0.0.1:{rig.port_of(name)}/v1/chat/completions"
        for name in ("ingress-0", "ingress-1")
    )
    copies = []
    for number in range(streams):
        content = steer(chunks=_CHUNKS, delay_ms=_EVERY_MS, output_tokens=2 * _CHUNKS + number)
        body = {"model": MODEL, "messages": [{"role": "user", "content": content}], "stream": True}
        copies.append(Copy(body, rig.grants[number % len(rig.grants)].key))
    connector = aiohttp.TCPConnector(limit=2 * streams)
    async with aiohttp.ClientSession(connector=connector) as session:
        reading = [asyncio.create_task(copy.read(session, first)) for copy in copies]
        await asyncio.sleep(_KILLED_AFTER_S)
        os.kill(pid_of(rig, "ingress-0"), signal.SIGKILL)
        await asyncio.gather(*reading)
        await asyncio.gather(*(copy.read(session, second) for copy in copies if not copy.is_whole))
    return copies


def bills_of(rig: Rig, requests: set[str]) -> Counter[str]:
    """Usage lines by request, once all are there or time is up."""

    def bills(lines: list[LogRecord]) -> Counter[str]:
        told = (str(line.value["request_id"]) for line in lines)
        return Counter(request for request in told if request in requests)

    log = KafkaLog(rig.stack.kafka)
    read = log.read(USAGE_RECORDS, lambda lines: bills(lines).keys() == requests, _BILLED_WITHIN_S)
    return bills(read)


class Evidence(NamedTuple):
    """What others than the clients know of the requests of some streams."""

    bills: Counter[str]
    """Usage lines by request."""
    calls: list[Call]
    """Those that backends had for them."""
    sent: dict[str | None, str]
    """Hashes of the texts that backends sent, by request."""


def evidence_of(rig: Rig, requests: set[str]) -> Evidence:
    """The usage lines of the log, and what the backends wrote down."""
    bills = bills_of(rig, requests)
    calls = [call for call in rig.calls() if call.start.request_id in requests]
    sent = {call.start.request_id: call.end.text_sha256 for call in calls if call.end}
    return Evidence(bills, calls, sent)


def main() -> int:
    """Read the command line, run, report."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--streams", type=int, default=STREAMS, help="open at once")
    streams = options.parse_args().streams
    with ExitStack() as running:
        folder = running.enter_context(tempfile.TemporaryDirectory(prefix="tallygate-resumed-"))
        rig = running.enter_context(running_rig(Path(folder), replicas={"ingress": 2}))
        copies = asyncio.run(asyncio.wait_for(run(rig, streams), _WITHIN_S))
        requests = {copy.request_id for copy in copies}
        bills, calls, sent = evidence_of(rig, requests)
    broken = sum(copy.breaks > 0 for copy in copies)
    equal = sum(copy.is_whole and sent.get(copy.request_id) == copy.text_sha256 for copy in copies)
    billed_once = sum(bills[request] == 1 for request in requests)
    print(f"{streams} streams, {broken} broken by kill -9 and resumed at the other ingress")
    print(f"{equal} whole, their text hashes as the backend's; {len(calls)} calls of backends")
    print(f"{billed_once} requests with one usage line")
    counts = (broken, equal, len(calls), billed_once, len(requests))
    is_right = counts == (streams,) * len(counts)
    print(f"resumed streams: {'CLEAN' if is_right else 'FINDINGS'}", flush=True)
    return 0 if is_right else 1


if __name__ == "__main__":
    sys.exit(main())
