"""`tallygate bench` against a gateway that runs: figures, stages out of the log, a page."""

from __future__ import annotations

import asyncio
import json
import subprocess
from pathlib import Path

from tests.support.fakes.running_backend import RunningBackend
from tests.support.harness.gateway_client import MODEL
from tests.support.harness.grants import MakeKey
from tests.support.harness.running_stack import TALLYGATE, RunningStack


async def test_a_bench_tells_what_a_running_gateway_adds_and_where(
    stack: RunningStack, backends: list[RunningBackend], make_key: MakeKey, tmp_path: Path
) -> None:
    """Every stage of a request is found by the id that its client was given."""
    page = tmp_path / "bench.html"
    options = {
        "--url": stack.api_url,
        "--key": make_key("benched").key,
        "--model": MODEL,
        "--backend-url": backends[0].url,
        "--brokers": stack.kafka,
        "--scale": "0.05",
        "--rate": "20",
        "--connections": "4",
        "--report": str(page),
    }
    words = [part for option in options.items() for part in option]
    command = [str(TALLYGATE), "bench", "open", "ledger", "--json", *words]

    done = await asyncio.to_thread(
        subprocess.run, command, capture_output=True, text=True, timeout=90, check=False
    )
    told = json.loads(done.stdout)
    opened, ledger = told["runs"]

    assert done.returncode == 1, done.stderr
    assert {"open.p50", "open.p99"} <= {figure["name"] for figure in told["figures"]}
    assert opened["reports"][1]["errors"] == {}
    stages = [note for note in opened["notes"] if " -> " in note]
    assert len(stages) == 6, opened["notes"]
    assert "leave out --url" in ledger["notes"][0]
    assert page.read_text(encoding="utf-8").count("<svg") == 2
