"""The control plane and the data plane end and come back by themselves: neither interrupts the other."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.support.harness.running_stack import TALLYGATE, RunningStack, lasting, running_stack

pytestmark = pytest.mark.timeout(240)
RETURN_DEADLINE_S = 40.0


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    """A stack of its own, whose processes are killed."""
    with running_stack(tmp_path_factory.mktemp("control") / "state") as running:
        yield running


def pid_of(stack: RunningStack, name: str) -> int:
    """The living process of that name."""
    mark = f"TALLYGATE_INSTANCE_ID={name}\0".encode()
    (pid,) = (
        pid
        for pid in lasting(stack.process.pid)
        if mark in Path(f"/proc/{pid}/environ").read_bytes()
    )
    return pid


@contextmanager
def away(stack: RunningStack, name: str) -> Iterator[None]:
    """The process is killed and stays away: its supervisor sleeps, so nobody starts a successor."""
    os.kill(stack.process.pid, signal.SIGSTOP)
    try:
        os.kill(pid_of(stack, name), signal.SIGKILL)
        yield
    finally:
        os.kill(stack.process.pid, signal.SIGCONT)


def ask(stack: RunningStack) -> httpx.Response:
    body = {"model": "echo-1", "messages": [{"role": "user", "content": "one two three"}]}
    headers = {"Authorization": f"Bearer {stack.first_key}"}
    url = f"{stack.api_url}/chat/completions"
    return httpx.post(url, json=body, headers=headers, timeout=30, trust_env=False)


def is_ready(stack: RunningStack) -> bool:
    """Whether ingress says so."""
    try:
        url = f"{stack.api_url}/status/readyz"
        return httpx.get(url, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


def tallygate(stack: RunningStack, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A command as an operator types it."""
    command = [str(TALLYGATE), *arguments, "--url", stack.admin_url]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def wait_until(is_so: Callable[[], bool]) -> None:
    end_s = time.monotonic() + RETURN_DEADLINE_S
    while not is_so():
        assert time.monotonic() < end_s
        time.sleep(0.1)


@contextmanager
def requests_beside(stack: RunningStack) -> Iterator[list[int]]:
    """Requests one after the other, all the while; their statuses."""
    statuses: list[int] = []
    is_over = threading.Event()

    def run() -> None:
        while not is_over.is_set():
            statuses.append(ask(stack).status_code)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield statuses
    finally:
        is_over.set()
        thread.join()


def test_requests_go_on_without_the_control_plane(stack: RunningStack) -> None:
    """Commands say plainly that it is away, and work again once it is back."""
    request_id = ask(stack).headers["x-request-id"]
    with requests_beside(stack) as statuses:
        with away(stack, "admin-0"):
            before = len(statuses)
            told = tallygate(stack, "requests", "show", request_id)
            assert len(statuses) > before
        wait_until(lambda: tallygate(stack, "requests", "show", request_id).returncode == 0)
        made = tallygate(stack, "orgs", "set", "beside")

    assert told.returncode == 1
    assert f"the control plane at {stack.admin_url} is away" in told.stderr
    assert made.returncode == 0, made.stderr
    assert set(statuses) == {200}


def test_administration_goes_on_without_ingress(stack: RunningStack) -> None:
    """Reads and writes; the data plane hears of it when it is back."""
    with away(stack, "ingress-0"):
        with pytest.raises(httpx.HTTPError):
            ask(stack)
        made = tallygate(stack, "orgs", "set", "meanwhile")
        shown = tallygate(stack, "orgs", "list", "--json")
    wait_until(lambda: is_ready(stack))

    assert made.returncode == 0, made.stderr
    assert "meanwhile" in shown.stdout
    assert ask(stack).status_code == 200


def test_sigterm_ends_the_control_plane_in_order(stack: RunningStack) -> None:
    """Exit code 0 within seconds; its supervisor starts the next."""
    pid = pid_of(stack, "admin-0")
    began_s = time.monotonic()
    os.kill(pid, signal.SIGTERM)
    wait_until(lambda: not Path(f"/proc/{pid}").exists())
    ended_s = time.monotonic() - began_s
    wait_until(lambda: "ok       admin          admin-0" in tallygate(stack, "doctor").stdout)

    assert ended_s < 5
    assert "admin-0" in tallygate(stack, "config", "status").stdout
