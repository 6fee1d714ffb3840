"""`tallygate up` leaves nothing behind, and what it kept is there on the next start."""

from __future__ import annotations

import json
import os
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.harness.running_stack import (
    TALLYGATE,
    RunningStack,
    descendants,
    is_alive,
    running_stack,
)

pytestmark = pytest.mark.timeout(240)
USAGE_DEADLINE_S = 40


def _ask(stack: RunningStack) -> httpx.Response:
    body = {"model": "echo-1", "messages": [{"role": "user", "content": "one two three"}]}
    headers = {"Authorization": f"Bearer {stack.first_key}"}
    url = f"{stack.api_url}/chat/completions"
    return httpx.post(url, json=body, headers=headers, timeout=30, trust_env=False)


def _demo_usage(stack: RunningStack) -> dict[str, Any]:
    """The usage of the first key's org, once the ledger and the log agree on it."""
    with httpx.Client(base_url=stack.admin_url, timeout=60, trust_env=False) as admin:
        verified = admin.get("/ledger/verify", params={"deadline_s": USAGE_DEADLINE_S})
        assert verified.raise_for_status().json()["difference"] == 0
        give_up_s = time.monotonic() + USAGE_DEADLINE_S
        answer = admin.get("/usage", params={"by": "org"})
        while answer.status_code == 503 and time.monotonic() < give_up_s:
            # The ledger was restarted, so it is made again: usage comes last.
            time.sleep(0.5)
            answer = admin.get("/usage", params={"by": "org"})
        report = answer.raise_for_status().json()
    (row,) = [row for row in report["rows"] if row["org"] == "demo"]
    return dict(row)


def _tallygate(stack: RunningStack, *words: str) -> dict[str, Any]:
    """A command of the same user, for programs."""
    environment = {**os.environ, "XDG_STATE_HOME": str(stack.state_dir.parent)}
    done = subprocess.run(
        [str(TALLYGATE), *words, "--json"],
        env=environment,
        capture_output=True,
        check=True,
        timeout=120,
    )
    return dict(json.loads(done.stdout))


def _scale_and_restart(stack: RunningStack) -> None:
    """A second ingress serves; it is restarted as another process, on its port; then it is gone."""
    told = _tallygate(stack, "scale", "ingress=2")
    before = descendants(stack.process.pid)
    assert told["apis"][0] == stack.api_url
    assert _ask(replace(stack, api_url=told["apis"][1])).status_code == 200

    assert _tallygate(stack, "restart", "ingress-1")["restarted"] == ["ingress-1"]
    assert len(descendants(stack.process.pid) - before) >= 1
    assert _ask(replace(stack, api_url=told["apis"][1])).status_code == 200

    assert _tallygate(stack, "scale", "ingress=1")["apis"] == [stack.api_url]
    with pytest.raises(httpx.ConnectError):
        _ask(replace(stack, api_url=told["apis"][1]))


def test_sigterm_ends_every_process_and_a_restart_keeps_key_and_usage(tmp_path: Path) -> None:
    """Stop, look for survivors, start again on the same folder, spend with the same key."""
    state = tmp_path / "state"
    with running_stack(state) as first:
        assert _ask(first).status_code == 200
        usage = _demo_usage(first)
        started = descendants(first.process.pid)
        assert len(started) >= 9
        assert first.stop() == 0

    assert not [pid for pid in started if is_alive(pid)]

    with running_stack(state) as second:
        assert second.first_key == first.first_key
        assert _demo_usage(second) == usage
        assert _ask(second).status_code == 200
        assert _demo_usage(second)["requests"] == usage["requests"] + 1
        _scale_and_restart(second)
        assert second.stop() == 0
