"""The embedded infrastructure with real servers: it starts, heals, stops, and keeps its data."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import redis.asyncio as redis
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from deploy.embedded.ledger_shape import LedgerShape
from deploy.embedded.problem import StackError
from deploy.embedded.stack import Stack
from tests.support.harness.infrastructure import infrastructure

pytestmark = pytest.mark.timeout(180)
ALONE = LedgerShape()


async def topics_of(stack: Stack, create: str | None = None) -> list[str]:
    admin = AIOKafkaAdminClient(bootstrap_servers=stack.kafka_brokers)
    await admin.start()
    try:
        if create is not None:
            await admin.create_topics([NewTopic(create, 2, 1)])
        return list(await admin.list_topics())
    finally:
        await admin.close()


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_data_survives_a_restart_and_no_process_does(tmp_path: Path) -> None:
    """Topics and the ledger come back on other ports; the bus starts empty; stop leaves nothing."""
    async with infrastructure(tmp_path, ALONE) as stack:
        assert "kept" in await topics_of(stack, create="kept")
        async with redis.from_url(stack.ledger_url) as ledger, redis.from_url(stack.bus_url) as bus:
            assert await ledger.ping()
            assert await bus.ping()
            await ledger.set("balance", "7")
            await bus.set("frame", "x")
        pids = [process.pid for process in stack.processes.values()]

    assert len(pids) == 3
    assert not any(is_alive(pid) for pid in pids if pid is not None)
    async with infrastructure(tmp_path, ALONE) as stack:
        assert "kept" in await topics_of(stack)
        async with redis.from_url(stack.ledger_url) as ledger, redis.from_url(stack.bus_url) as bus:
            assert await ledger.get("balance") == b"7"
            assert await bus.get("frame") is None


async def test_a_killed_ledger_is_restarted_with_every_acknowledged_write(tmp_path: Path) -> None:
    """A kill -9 right after the answer loses nothing."""
    async with infrastructure(tmp_path, ALONE) as stack:
        async with redis.from_url(stack.ledger_url) as ledger:
            await ledger.set("balance", "7")
        first = stack.pid("ledger")
        assert first is not None

        os.kill(first, signal.SIGKILL)
        async with asyncio.timeout(20):
            while stack.pid("ledger") in (None, first):  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.05)
        assert stack.processes["ledger"].restarts == 1
        await stack.restart("ledger")

        async with redis.from_url(stack.ledger_url) as ledger:
            assert await ledger.get("balance") == b"7"


async def test_a_second_stack_on_the_same_folder_is_refused(tmp_path: Path) -> None:
    """The refusal names the folder, and the first stack goes on."""
    async with infrastructure(tmp_path, ALONE) as stack:
        with pytest.raises(StackError, match="is in use"):
            async with infrastructure(tmp_path, ALONE):
                pass

        assert stack.pid("kafka") is not None


async def test_killing_the_supervisor_kills_its_children(tmp_path: Path) -> None:
    """A kill -9 of the parent leaves no orphan."""
    program = textwrap.dedent(f"""
        import asyncio, os
        from pathlib import Path
        from deploy.embedded.ledger_shape import LedgerShape
        from tests.support.harness.infrastructure import infrastructure

        async def main():
            async with infrastructure(Path({str(tmp_path)!r}), LedgerShape()) as stack:
                print(*(stack.pid(name) for name in stack.processes), flush=True)
                await asyncio.sleep(60)

        asyncio.run(main())
    """)
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]
    )
    assert parent.stdout is not None
    pids = [int(pid) for pid in (await asyncio.wait_for(parent.stdout.readline(), 120)).split()]
    assert len(pids) == 3

    parent.kill()
    await parent.wait()

    async with asyncio.timeout(10):
        while any(is_running(pid) for pid in pids):  # noqa: ASYNC110 - other processes
            await asyncio.sleep(0.05)


def is_running(pid: int) -> bool:
    """True unless the process is gone or a zombie that its new parent has yet to reap."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except FileNotFoundError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"
