"""A broker that hangs is known at once, whoever still waits; one that lost its tail is written to again."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from deploy.embedded.stack import Stack
from schemas.outgoing import Outgoing
from schemas.runtime.kafka.produce import Producer
from schemas.runtime.kafka.topic_admin import apply_topics
from schemas.topics import OUTCOMES
from tests.support.harness.infrastructure import infrastructure

pytestmark = [pytest.mark.timeout(120), pytest.mark.asyncio(loop_scope="module")]

_BACK_WITHIN_S = 60.0
_STOPS_WITHIN_S = 5.0
_KEY = b"acme"


@pytest.fixture(scope="module")
def state_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("broker") / "state"


@pytest.fixture
def data(state_dir: Path) -> Path:
    """The broker's own files."""
    return state_dir / "kafka" / "data"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(state_dir: Path) -> AsyncIterator[Stack]:
    """One broker for both."""
    async with infrastructure(state_dir) as running:
        await apply_topics(running.kafka_brokers, 1)
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def producer(stack: Stack) -> AsyncIterator[Producer]:
    """A process's own."""
    made = Producer(stack.kafka_brokers, "test")
    await made.start([OUTCOMES])
    yield made
    await made.stop()


def _broker(stack: Stack) -> int:
    pid = stack.processes["kafka"].pid
    assert pid is not None
    return pid


def _stop(pid: int) -> None:
    """Returns once every thread stands still: until then the broker may go on acknowledging."""
    os.kill(pid, signal.SIGSTOP)
    give_up_s = time.monotonic() + _STOPS_WITHIN_S
    while time.monotonic() < give_up_s and _states(pid) != {"T"}:
        time.sleep(0.01)


def _states(pid: int) -> set[str]:
    """Of all its threads; the state follows the name in brackets."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return {(task / "stat").read_text().rpartition(")")[2].split()[0] for task in tasks}


async def test_a_broker_that_hangs_is_known_until_it_acknowledges_again(
    stack: Stack, producer: Producer
) -> None:
    """Also when everybody gave up waiting; nobody has to send anything to find out that it is back."""
    await producer.deliver([Outgoing(OUTCOMES, _KEY, b"before")], time.monotonic() + 10)
    pid = _broker(stack)
    try:
        _stop(pid)
        given_up = producer.send(Outgoing(OUTCOMES, _KEY, b"meanwhile"))
        await asyncio.sleep(0.5)
        given_up.cancel()
        await asyncio.sleep(0.5)
        silent_s = producer.unacknowledged_s
    finally:
        os.kill(pid, signal.SIGCONT)
    async with asyncio.timeout(_BACK_WITHIN_S):
        while producer.unacknowledged_s > 0:  # noqa: ASYNC110  # the broker has no event to wait for
            await asyncio.sleep(0.05)

    assert silent_s >= 0.9


async def test_a_partition_that_lost_its_tail_is_written_to_again(
    stack: Stack, producer: Producer, data: Path
) -> None:
    """The broker died with it; the place in the sequence is lost, so another producer goes on."""
    places = [await producer.send(Outgoing(OUTCOMES, _KEY, b"%d" % n)) for n in range(50)]
    pid = _broker(stack)
    os.kill(pid, signal.SIGKILL)
    segment = max((data / f"{OUTCOMES}-0").glob("*.log"))
    # The supervisor starts it again, which takes longer than this; in the middle of a record.
    os.truncate(segment, segment.stat().st_size - 1_000)
    later = [Outgoing(OUTCOMES, _KEY, b"later %d" % n) for n in range(5)]
    await producer.deliver(later, time.monotonic() + _BACK_WITHIN_S)
    after = await producer.send(Outgoing(OUTCOMES, _KEY, b"after"))

    assert _broker(stack) != pid
    assert 0 < after.offset <= places[-1].offset
