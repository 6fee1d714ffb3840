"""`tallygate backends check` on a real backend, and its entry in a real gateway."""

from __future__ import annotations

import asyncio
import json
import subprocess

from tests.support.fakes.running_backend import RunningBackend
from tests.support.harness.gateway_client import GatewayClient
from tests.support.harness.grants import MakeKey
from tests.support.harness.running_stack import TALLYGATE, RunningStack


async def test_what_a_check_writes_is_a_model_that_answers(
    stack: RunningStack, backends: list[RunningBackend], make_key: MakeKey, client: GatewayClient
) -> None:
    """Nobody has to know the names of the configuration's fields."""
    grant = make_key("checked")
    # Every mode of the fake backend is a model; the name of no other test.
    command = [str(TALLYGATE), "backends", "check", backends[0].url, "--json", "--write"]
    command += [
        "--url",
        stack.admin_url,
        "--name",
        "checked",
        "--model",
        "Checked (v2)",
        "--idle-s",
        "0.2",
    ]

    done = await asyncio.to_thread(
        subprocess.run, command, capture_output=True, text=True, timeout=60, check=False
    )
    told = json.loads(done.stdout)
    reply = await client.post(
        "/chat/completions",
        grant.key,
        {"model": "Checked-v2-", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 5},
    )

    assert done.returncode == 0, done.stderr
    says = {finding["about"]: finding["says"] for finding in told["findings"]}
    assert says["usage"] == says["usage in streams, asked for"] == says["max_tokens"] == "yes"
    assert told["written"] == ["backends/checked", "models/Checked-v2-"]
    assert told["used"]["output_tokens"] > 0
    assert reply.status == 200
