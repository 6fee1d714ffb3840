"""What other commands may ask of a running stack, and what they hear, over the real socket."""

from __future__ import annotations

import asyncio
import json
import stat
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest

from deploy.embedded.control import Control
from deploy.embedded.problem import StackError
from deploy.embedded.process import Progress
from deploy.embedded.stack import Stack


class _Processes:
    """A stack without processes: what it is told to do is written down."""

    def __init__(self) -> None:
        self.replicas = {"accounting": 1, "dispatcher": 2, "ingress": 1}
        self.partitions = 4
        self.api_urls = ("http://127.0.0.1:1/v1",)
        self.admin_urls = ("http://127.0.0.1:2/admin/v1",)
        self.restarted: list[str] = []
        self.may_go_on = asyncio.Event()
        self.may_go_on.set()
        self.broken = ""

    async def scale(self, wanted: Mapping[str, int]) -> None:
        await self.may_go_on.wait()
        self.replicas |= wanted

    async def restart(self, name: str) -> None:
        await self.may_go_on.wait()
        if name == self.broken:
            raise StackError(f"{name} did not start", "it ended with code 1", "read its log")
        self.restarted.append(name)


@asynccontextmanager
async def _controlled() -> AsyncIterator[tuple[_Processes, Control, Path]]:
    processes = _Processes()
    control = Control(cast(Stack, processes))
    try:
        yield processes, control, await control.open()
    finally:
        await control.close()


async def _ask(path: Path, line: bytes) -> list[dict[str, Any]]:
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(line + b"\n")
    async with asyncio.timeout(5):
        answers = (await reader.read()).splitlines()
    writer.close()
    return [json.loads(answer) for answer in answers]


def _scale(numbers: str) -> bytes:
    return json.dumps({"type": "scale", "replicas": numbers}).encode()


def _restart(*words: str, **more: Any) -> bytes:
    return json.dumps({"type": "restart", "words": words, **more}).encode()


async def test_who_scales_hears_what_stands_afterwards() -> None:
    """Every API is among it."""
    async with _controlled() as (processes, _, path):
        (done,) = await _ask(path, _scale("dispatcher=3"))

    assert done == {
        "replicas": {"accounting": 1, "dispatcher": 3, "ingress": 1},
        "restarted": [],
        "apis": list(processes.api_urls),
        "admins": list(processes.admin_urls),
    }


async def test_processes_are_restarted_one_after_another_until_one_does_not_start() -> None:
    """The rest run on as they are."""
    async with _controlled() as (processes, _, path):
        processes.broken = "dispatcher-1"
        (answer,) = await _ask(path, _restart())

    assert processes.restarted == ["accounting-0", "dispatcher-0"]
    assert answer["problem"] == [
        "dispatcher-1 did not start",
        "it ended with code 1",
        "read its log",
    ]


async def test_who_asks_hears_what_happens_meanwhile_and_nobody_else() -> None:
    """Each line as the stack's own terminal has it."""
    async with _controlled() as (processes, control, path):
        processes.may_go_on.clear()
        asking = asyncio.create_task(_ask(path, _restart("ingress")))
        await asyncio.sleep(0.1)
        control.hear(Progress("ingress-0", True, "http://127.0.0.1:1", 2.0))
        processes.may_go_on.set()
        told, done = await asking
        control.hear(Progress("ingress-0", False, "ended"))

    assert told["told"].startswith("✓ ingress-0")
    assert done["restarted"] == ["ingress-0"]


async def test_one_change_at_a_time() -> None:
    """The second is refused, and the first goes on although its asker left."""
    async with _controlled() as (processes, _, path):
        processes.may_go_on.clear()
        _, writer = await asyncio.open_unix_connection(path)
        writer.write(_scale("ingress=2") + b"\n")
        await asyncio.sleep(0.1)
        writer.close()
        (second,) = await _ask(path, _scale("ingress=3"))
        processes.may_go_on.set()
        await asyncio.sleep(0.1)
        (third,) = await _ask(path, _scale("dispatcher=2"))

    assert second["problem"][0] == "another change is under way"
    assert third["replicas"]["ingress"] == 2


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"\xff\x00",
        b"[]",
        b'{"type": "stop"}',
        b'{"type": "scale"}',
        b'{"type": "scale", "replicas": "x=1"}',
        b'{"type": "scale", "replicas": "dispatcher=2", "more": 1}',
        b'{"type": "restart", "words": ["kafka"]}',
        b'{"type": "restart", "pause_s": -1}',
        b'{"type": "restart", "pause_s": 1e300}',
    ],
)
async def test_what_is_no_change_is_told_so_and_changes_nothing(line: bytes) -> None:
    """Whoever writes to the socket cannot end the stack with it."""
    async with _controlled() as (processes, _, path):
        (answer,) = await _ask(path, line)

    assert answer["problem"][0] == "that cannot be done"
    assert (processes.replicas["dispatcher"], processes.restarted) == (2, [])


async def test_a_line_without_an_end_is_not_kept() -> None:
    """The connection is closed without an answer."""
    async with _controlled() as (_, _, path):
        assert await _ask(path, b"x" * 200_000) == []


async def test_only_this_user_reaches_the_socket_and_it_goes_with_the_stack() -> None:
    """The folder is closed to everybody else."""
    async with _controlled() as (_, _, path):
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700

    assert not path.parent.exists()


async def test_the_end_of_the_stack_ends_a_change() -> None:
    """Nothing is started any more while everything is stopped."""
    async with _controlled() as (processes, control, path):
        processes.may_go_on.clear()
        asking = asyncio.create_task(_ask(path, _restart("dispatcher")))
        await asyncio.sleep(0.1)
        await control.close()
        processes.may_go_on.set()

        assert await asking == []
        assert processes.restarted == []
