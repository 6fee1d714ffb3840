"""The examples do what they say, on the stack that the other tests use."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.support.harness.gateway_client import MODEL
from tests.support.harness.grants import Grant, MakeKey
from tests.support.harness.oracle import Oracle, cost_nano_usd
from tests.support.harness.running_stack import TALLYGATE, RunningStack

EXAMPLES = Path(__file__).parents[2] / "examples"
DEADLINE_S = 45.0
Run = Callable[[str], str]
pytestmark = pytest.mark.timeout(60, func_only=True)


@pytest.fixture(scope="module")
def grant(make_key: MakeKey) -> Grant:
    return make_key("examples")


@pytest.fixture(scope="module")
def schemas(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The published schemas as a stranger gets them."""
    folder = tmp_path_factory.mktemp("schemas")
    command = [str(TALLYGATE), "schemas", "export", str(folder)]
    subprocess.run(command, check=True, capture_output=True, timeout=DEADLINE_S)
    return folder


@pytest.fixture
def run(stack: RunningStack, grant: Grant, schemas: Path) -> Run:
    def run_example(name: str) -> str:
        """What the example prints; it ends well or the test does not."""
        environment = {
            **os.environ,
            "OPENAI_BASE_URL": stack.api_url,
            "OPENAI_API_KEY": grant.key,
            "ANTHROPIC_BASE_URL": stack.api_url.removesuffix("/v1"),
            "ANTHROPIC_API_KEY": grant.key,
            "KAFKA_BROKERS": stack.kafka,
            "TALLYGATE_MODEL": MODEL,
        }
        ended = subprocess.run(
            [sys.executable if name.endswith(".py") else "sh", name],
            cwd=EXAMPLES,
            env={**environment, "SCHEMAS": str(schemas)},
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            check=False,
        )
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    return run_example


def test_sync(run: Run, oracle: Oracle) -> None:
    """Text, the backend's own counts, and the id of the request."""
    printed = run("sync.py")

    (call,) = oracle.calls_of(re.findall(r"request: (\S+)", printed))
    assert "hello from the ledger" in printed
    assert f"tokens: {call.prompt_tokens} in, {call.completion_tokens} out" in printed


def test_stream(run: Run) -> None:
    """The chunks make the text, and the usage follows."""
    text, usage = run("stream.py").splitlines()

    assert text.startswith("one two three four")
    assert usage.endswith(f" in, {len(text.split())} out")


def test_anthropic_messages(run: Run, oracle: Oracle) -> None:
    """Whole and streamed; the counts are the backend's."""
    printed = run("anthropic_messages.py")

    (call,) = oracle.calls_of(re.findall(r"request: ([^,\s]+)", printed))
    assert "hello from the ledger" in printed
    assert f"tokens: {call.prompt_tokens} in, {call.completion_tokens} out" in printed
    assert f"cost: 0.{cost_nano_usd(call):09} USD" in printed
    assert printed.splitlines()[-2].startswith("one two three four")
    assert printed.splitlines()[-1].startswith("ended: ")


def test_resumed_stream(run: Run) -> None:
    """Both parts are something, and together they are the whole."""
    before, after, whole = (
        line.split(": ", 1)[1] for line in run("resumed_stream.py").splitlines()
    )

    assert before
    assert after
    assert before + after == whole
    assert whole.startswith("one two three four five six")


def test_curl(run: Run) -> None:
    """Each answer is what its comment says."""
    models, completion, *events, limits = run("curl.sh").splitlines()

    assert MODEL in {model["id"] for model in json.loads(models)["data"]}
    assert "hello from a shell" in json.loads(completion)["choices"][0]["message"]["content"]
    assert "data: [DONE]" in events
    assert json.loads(limits)["data"]


def test_job(run: Run) -> None:
    """Taken, then completed, then read."""
    job, *_, ended, text = run("job.py").split("\n")[:-1]

    assert job.endswith(": queued")
    assert ended.endswith(": completed")
    assert text.startswith("take your time")


def test_idempotent_retry(run: Run, oracle: Oracle) -> None:
    """Two requests, one call; another body is refused."""
    printed = dict(line.split(": ", 1) for line in run("idempotent_retry.py").splitlines())

    status, request_id = printed["first"].split()
    assert status == "200"
    assert len(oracle.calls_of([request_id])) == 1
    assert printed["again"] == printed["first"]
    assert (printed["replayed"], printed["same answer"]) == ("true", "True")
    assert printed["other body"] == "422 idempotency_key_reused"


def test_usage_per_org(run: Run, make_key: MakeKey, stack: RunningStack, oracle: Oracle) -> None:
    """The sum over the usage topic is what the backends' own logs come to."""
    alone = make_key("examples-usage")
    api = openai.OpenAI(base_url=stack.api_url, api_key=alone.key, max_retries=0, timeout=30)
    asked: Any = {"model": MODEL, "messages": [{"role": "user", "content": "two words"}]}
    raw = api.chat.completions.with_raw_response.create(**asked)
    (call,) = oracle.calls_of([raw.headers["x-request-id"]])
    line = f"examples-usage\t1 lines\t0.{cost_nano_usd(call):09} USD"

    ends_at_s = time.monotonic() + DEADLINE_S
    while line not in (printed := run("usage_per_org.py")):
        assert time.monotonic() < ends_at_s, printed
