"""The whole command line, on a plain admin port and under mutual TLS: what works on one works on the other."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from typer.core import TyperGroup

from deploy.cli.main import command_line
from deploy.embedded.admin_tls import admin_certificates
from schemas.admin_roles import Role
from tests.support.harness.running_stack import TALLYGATE, RunningStack, running_stack

pytestmark = pytest.mark.timeout(400)
MODEL = "echo-1"
PRICES: Final = {
    "litellm_provider": "openai",
    "mode": "chat",
    "input_cost_per_token": 1e-06,
    "output_cost_per_token": 2e-06,
}
# Each command in an order in which each has something to do; {name} is what an earlier one or the stack told.
COMMANDS: Final = (
    "orgs set acme --rps 9",
    "orgs list",
    "keys create --org acme --name ci",
    "keys list",
    "keys rotate {key_id} --grace 1s",
    "keys revoke {key_id}",
    "models set echo-2 --backend example-a",
    "models list",
    "prices show echo-1",
    "prices diff {prices} --model echo-1=gpt-x",
    "prices import {prices} --model echo-1=gpt-x",
    "routes list",
    "routes pin echo-1 example-a --for 1h",
    "routes weights echo-1 example-a=9 example-b=1 --for 30m",
    "routes canary echo-1 example-b=5 --for 1h",
    "routes timeout echo-1 20 --for 1d",
    "routes retries echo-1 0 --for 15m",
    "routes explain echo-1",
    "routes restore echo-1",
    "routes drain example-b --for 1h",
    "backends list",
    "backends drain example-b",
    "backends restore example-b",
    "backends check {backend} --idle-s 1 --write",
    "config diff -f {desired}",
    "config apply -f {desired}",
    "config status",
    "config adopt",
    "config sign",
    "usage report",
    "requests show {request_id}",
    "audit list",
    "ledger verify --deadline-s 20",
    "ledger status",
    "ledger rebuild --shard 0 --dry-run",
    "reconcile",
    "replay plan",
    "replay run --as accounting",
    "topics list",
    "topics apply --partitions 4 --replicas 1",
    "topics tail usage.records.v1 --from-beginning --max 1",
    "lag",
    "dlq list",
    "dlq show inference.requests.v1.dlq-0@0",
    "dlq retry inference.requests.v1.dlq-0@0",
    "doctor",
    "bench closed --scale 0.01 --runs 1 --connections 4",
)
_TYPED: Final = """
import io, json, sys
from deploy.cli.main import run
from deploy.cli.output import Output
told = {}
for name, line in json.load(sys.stdin).items():
    story = io.StringIO()
    told[name] = run(line.split(), Output(io.StringIO(), story, as_json=False)), story.getvalue()
with open(sys.argv[1], "w") as file:
    json.dump(told, file)
"""
"""Types commands one after the other; sixty starts of an interpreter would take a minute."""
_REFUSED: Final = {"config adopt", "dlq show", "dlq retry"}
"""There is nothing to accept here, and no dead letter: the gateway says so (exit code 4), whichever port."""


def _asking(group: Any, words: tuple[str, ...] = ()) -> Iterator[str]:
    """The commands that ask the admin API."""
    for name in group.list_commands(None):
        command = group.commands[name]
        if isinstance(command, TyperGroup):
            yield from _asking(command, (*words, name))
        elif any(parameter.name == "url" for parameter in command.params):
            yield " ".join((*words, name))


def _run(
    stack: RunningStack, arguments: str, more: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """As a user types it: where the gateway is, and who they are, is found in the state folder."""
    environment = {**os.environ, "XDG_STATE_HOME": str(stack.state_dir.parent), **(more or {})}
    return subprocess.run(
        [str(TALLYGATE), *arguments.split()],
        capture_output=True,
        text=True,
        timeout=120,
        env=environment,
        check=False,
    )


def _typed(stack: RunningStack, lines: Mapping[str, str], told: Path) -> dict[str, tuple[int, str]]:
    """Exit code and story of each command."""
    subprocess.run(
        [sys.executable, "-c", _TYPED, str(told)],
        input=json.dumps(lines),
        text=True,
        timeout=200,
        env={**os.environ, "XDG_STATE_HOME": str(stack.state_dir.parent)},
        check=True,
    )
    return {name: (code, story) for name, (code, story) in json.loads(told.read_text()).items()}


def _facts(stack: RunningStack, folder: Path) -> dict[str, str]:
    """What the commands' arguments need: files, a request that was served, a key."""
    body = {"model": MODEL, "messages": [{"role": "user", "content": "one"}]}
    headers = {"authorization": f"Bearer {stack.first_key}"}
    url = f"{stack.api_url}/chat/completions"
    answer = httpx.post(url, json=body, headers=headers, timeout=30, trust_env=False)
    (folder / "prices.json").write_text(json.dumps({"gpt-x": PRICES}))
    (folder / "desired.yaml").write_text("orgs: {filed: {limits: {burst: 7}}}")
    backends = json.loads(_run(stack, "backends list --json").stdout)["items"]
    key = json.loads(_run(stack, "keys create --org demo --json").stdout)
    return {
        "request_id": answer.raise_for_status().headers["x-request-id"],
        "key_id": key["key_id"],
        "backend": next(each["url"] for each in backends if each["id"] == "example-a"),
        "prices": str(folder / "prices.json"),
        "desired": str(folder / "desired.yaml"),
    }


@pytest.mark.parametrize("options", [(), ("--mtls",)], ids=["plain", "mtls"])
def test_the_whole_command_line_runs(tmp_path: Path, options: tuple[str, ...]) -> None:
    """Every command that asks the gateway, with no word about certificates."""
    with running_stack(tmp_path / "state", options=options) as stack:
        assert stack.admin_url.startswith("https:" if options else "http:")
        facts, asking = _facts(stack, tmp_path), list(_asking(command_line()))
        if not options:  # test_bench.py runs it there, and it takes as long as all others
            asking.remove("bench")
        lines = {
            next(each for each in asking if line.startswith(each)): line.format(**facts)
            for line in COMMANDS
            if line.startswith(tuple(asking))
        }
        told = _typed(stack, lines, tmp_path / "told.json")
        audited = json.loads(_run(stack, "audit list --limit 1000 --json").stdout)["items"]

    assert set(told) == set(asking)
    odd = {name: (4 if name in _REFUSED else 0) for name in told}
    assert {n: t for n, t in told.items() if t[0] != odd[n]} == {}
    actors = {event["actor"] for event in audited if event["action"].startswith("admin.")}
    assert actors == {"uri:spiffe://tallygate.dev/owner" if options else "admin"}


def test_who_comes_otherwise_is_told_what_is_missing(tmp_path: Path) -> None:
    """Another role, no certificate, nobody to vouch, plain HTTP; and the probes of the stack go on."""
    with running_stack(tmp_path / "state", options=("--mtls",)) as stack:
        made = admin_certificates(stack.state_dir)
        viewer = made.of_client(Role.VIEWER)
        url = {"TALLYGATE_ADMIN_URL": stack.admin_url}
        seen = _run(stack, "orgs list", viewer)
        refused = _run(stack, "orgs set acme", viewer | url)
        authority = {"TALLYGATE_ADMIN_CA": viewer["TALLYGATE_ADMIN_CA"]}
        nobody = _run(stack, "orgs list", authority | url)
        untrusted = {n: f for n, f in viewer.items() if n != "TALLYGATE_ADMIN_CA"}
        unknown = _run(stack, "orgs list", untrusted | url)
        plain = _run(stack, f"orgs list --url {stack.admin_url.replace('https', 'http')}")

        assert seen.returncode == 0, seen.stderr
        assert (refused.returncode, "viewer may not do this" in refused.stderr) == (4, True)
        assert (nobody.returncode, "no TLS with the control plane" in nobody.stderr) == (1, True)
        assert (unknown.returncode, "--ca" in unknown.stderr) == (1, True)
        assert (plain.returncode, "with https://" in plain.stderr) == (1, True)
        assert stack.stop() == 0
