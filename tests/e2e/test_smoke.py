"""`deploy/smoke.sh` against a gateway that runs: it passes, and says what is wrong with one that does not serve."""

from __future__ import annotations

import asyncio
import os
import subprocess

from tests.support.harness.gateway_client import MODEL
from tests.support.harness.grants import MakeKey
from tests.support.harness.running_stack import REPOSITORY, RunningStack

SCRIPT = REPOSITORY / "deploy" / "smoke.sh"


async def smoke(url: str, key: str, *more: str) -> subprocess.CompletedProcess[str]:
    """The script's end."""
    return await asyncio.to_thread(
        subprocess.run,
        [str(SCRIPT), url, *more],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "TALLYGATE_API_KEY": key},
    )


async def test_a_gateway_that_serves_passes(stack: RunningStack, make_key: MakeKey) -> None:
    """Every check, in seconds."""
    done = await smoke(stack.api_url, make_key("smoked").key, MODEL)

    assert done.returncode == 0, done.stdout
    lines = done.stdout.splitlines()
    assert len(lines) == 17
    assert all(line.startswith("ok ") for line in lines)


async def test_a_key_that_is_not_good_fails_what_needs_one(stack: RunningStack) -> None:
    """By name, and the rest is judged all the same."""
    done = await smoke(stack.api_url, "tg_live_nobody", MODEL)

    failed = [line for line in done.stdout.splitlines() if line.startswith("FAILED")]
    assert done.returncode == 1
    assert any("a completion is answered (401)" in line for line in failed)
    assert not any("it can serve" in line for line in failed)


async def test_nobody_at_the_address_is_told() -> None:
    """Not only by its exit code; and without a key it says what it wants."""
    done = await smoke("http://127.0.0.1:9", "tg_live_nobody", MODEL)
    asked = await smoke("http://127.0.0.1:9", "", MODEL)

    assert done.returncode == 1
    assert "FAILED  it answers (healthz 000)" in done.stdout
    assert (asked.returncode, asked.stdout) == (2, "")
    assert "TALLYGATE_API_KEY" in asked.stderr
