"""What was promised outlives a kill of the broker, both stores and every process at once."""

from __future__ import annotations

import json
import os
import signal
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.fakes.call_log import read_calls
from tests.support.fakes.running_backend import running_backend
from tests.support.harness.gateway_client import steer
from tests.support.harness.jobs_api import chat, jobs_client, until_ended
from tests.support.harness.running_stack import RunningStack, is_alive, lasting, running_stack


def _kill_everything(stack: RunningStack) -> None:
    """SIGKILL the command and all it started, as a power cut would."""
    pids = [stack.process.pid, *lasting(stack.process.pid)]
    for pid in pids:
        # Some end by themselves when the command dies.
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    stack.process.wait()
    while any(is_alive(pid) for pid in pids):
        time.sleep(0.05)


@pytest.fixture
def own_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for a stack that is to be killed."""
    return tmp_path_factory.mktemp("killed")


@pytest.mark.timeout(400, func_only=True)
async def test_promised_jobs_survive_a_kill_of_everything(own_folder: Path) -> None:
    """Broker, ledger, bus and all processes: every job that was promised ends, each run once."""
    log = own_folder / "calls.jsonl"
    with running_backend("fake-a", log) as backend:
        with running_stack(own_folder / "state", [backend]) as stack:
            key = stack.first_key
            async with jobs_client(stack.api_url, key) as api:
                done = (await api.post("/jobs", json=chat("before"))).json()["id"]
                assert (await until_ended(api, done))["status"] == "completed"
                slow = chat(steer(delay_ms=1_500, output_tokens=2), ttl_s=120)
                promises = [await api.post("/jobs", json=slow) for _ in range(6)]
            _kill_everything(stack)
        assert [promise.status_code for promise in promises] == [202] * 6
        with running_stack(own_folder / "state", [backend]) as stack:
            async with jobs_client(stack.api_url, key) as api:
                before = await until_ended(api, done)
                jobs = [await until_ended(api, p.json()["id"]) for p in promises]

    assert (before["status"], before["result"]["object"]) == ("completed", "chat.completion")
    assert {job["status"] for job in jobs} <= {"completed", "failed"}, json.dumps(jobs)
    finished = [job for job in jobs if job["status"] == "completed"]
    assert all(job["result"]["object"] == "chat.completion" for job in finished)
    called = [call.start.request_id for call in read_calls(log)]
    assert all(called.count(job["id"]) <= 2 for job in jobs)
