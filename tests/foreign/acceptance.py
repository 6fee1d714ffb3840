"""The numbered items of acceptance, as clients of other people see them: `python -m tests.foreign.acceptance`.

Each client is a program with its own packages, run unmodified against one gateway; for each it gets keys whose limits bind and
a backend to kill. What a package does not have is said and counted apart.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx

from tests.foreign.packages import CLIENTS_OF_NODE, OLDEST_CLIENTS, SDKS, node_with, python_with
from tests.support.fakes.anthropic_backend import KEY
from tests.support.fakes.running_backend import running_backend
from tests.support.harness.claude import CLAUDE, claude_model
from tests.support.harness.running_stack import RunningStack, running_stack

_PROGRAMS = Path(__file__).parent / "programs"
_WITHIN_S = 240.0
_UNLIMITED = {"requests_per_s": 100_000, "burst": 100_000}
_LIMITS: Mapping[str, Mapping[str, Any]] = {
    "GATEWAY_KEY": {"budgets": [{"usd": "100", "period": "month"}]},
    "SPENT_KEY": {"budgets": [{"usd": "0.000001", "period": "total"}]},
    "RATED_KEY": {"requests_per_s": 0.1, "burst": 1},
    "RATED_KEY_2": {"requests_per_s": 0.1, "burst": 1},
}
"""By the variable that tells the key: what its organization may use."""
_PRICE = {"input_usd_per_mtok": "0.50", "output_usd_per_mtok": "1.50"}
ABSENT = "the package has none"
ITEMS_OF_PYTHON, ITEMS_OF_NODE, ITEMS_OF_OPENAI = 22, 22, 16
"""How many a whole run tells, so that a program which ends early is noticed."""


def programs() -> Iterator[tuple[str, Sequence[str], Path, int]]:
    """Those that can be run here: clients, command, folder, how many items they tell."""
    for packages, items in ((SDKS, ITEMS_OF_PYTHON), (OLDEST_CLIENTS, ITEMS_OF_OPENAI)):
        if python := python_with(packages):
            name = "Python: " + ", ".join(packages[: 2 if packages is SDKS else 1])
            yield name, (str(python), str(_PROGRAMS / "acceptance_python.py")), _PROGRAMS, items
    if home := node_with(CLIENTS_OF_NODE):
        program = home / "acceptance.mjs"
        program.write_text((_PROGRAMS / "acceptance.mjs").read_text())
        command = (str(home / "node_modules/.bin/node"), str(program))
        named = [each for each in CLIENTS_OF_NODE if each.startswith(("openai@", "@anthropic"))]
        yield "Node: " + ", ".join(named), command, home, ITEMS_OF_NODE


def _keys(admin: httpx.Client, number: int) -> dict[str, str]:
    """Keys of organizations of its own for a program."""
    keys = {}
    for variable, limits in _LIMITS.items():
        org = f"client-{number}-{variable.lower().replace('_', '-')}"
        admin.put(f"/orgs/{org}", json={"limits": {**_UNLIMITED, **limits}}).raise_for_status()
        made = admin.post("/keys", json={"org": org, "name": "test", "limits": _UNLIMITED})
        keys[variable] = made.raise_for_status().json()["key"]
    return keys


def _told(
    command: Sequence[str], folder: Path, environment: Mapping[str, str]
) -> list[dict[str, Any]]:
    """What a program says; a last item with its error where it did not end well."""
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=_WITHIN_S,
        check=False,
    )
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode:
        lines.append({"item": 0, "what": "the program", "saw": done.stderr[-500:]})
    return lines


def _run(
    stack: RunningStack, admin: httpx.Client, folder: Path, number: int, program: Any
) -> Counter[str]:
    """How many items of a program passed, failed, or asked for what its package does not have."""
    name, command, where, wanted = program
    victim = f"victim-{number}"
    with running_backend(victim, folder / f"{victim}.jsonl") as backend:
        admin.put(f"/backends/{victim}", json={"url": backend.url}).raise_for_status()
        model = {"backends": [{"backend": victim}], **_PRICE}
        admin.put(f"/models/{victim}", json=model).raise_for_status()
        of_it = {"VICTIM_MODEL": victim, "VICTIM_PID": str(backend.pid)}
        keys = _keys(admin, number)
        told = _told(command, where, {"GATEWAY_URL": stack.api_url, **of_it, **keys})
    counts: Counter[str] = Counter()
    print(name)
    for line in sorted(told, key=lambda each: each["item"]):
        verdict = {"ok": "PASS", ABSENT: "NONE"}.get(line["saw"], "FAIL")
        counts[verdict] += 1
        why = "" if verdict == "PASS" else f": {line['saw']}"
        print(f"  {verdict} {line['item']} {line['what']}{why}")
    if len(told) != wanted:
        print(f"  FAIL {len(told)} items were told, not {wanted}")
        counts["FAIL"] += 1
    return counts


def main() -> int:
    """A table; 1 where an item fails, or no client could be had."""
    found = list(programs())
    with tempfile.TemporaryDirectory() as named, ExitStack() as running:
        folder = Path(named)
        backends = [
            running.enter_context(running_backend(name, folder / f"{name}.jsonl"))
            for name in ("fake-a", "fake-b")
        ]
        environment = {"BACKEND_CLAUDE_API_KEY": KEY}
        stack = running.enter_context(
            running_stack(folder / "state", backends, environment=environment)
        )
        admin = running.enter_context(
            httpx.Client(base_url=stack.admin_url, timeout=30, trust_env=False)
        )
        model = {"backends": [{"backend": each.name} for each in backends], **_PRICE}
        admin.put("/models/fake-1", json=model).raise_for_status()
        running.enter_context(claude_model(admin, folder, CLAUDE))
        counts: Counter[str] = Counter()
        for number, program in enumerate(found):
            counts += _run(stack, admin, folder, number, program)
    print(
        f"{counts['PASS']} passed, {counts['FAIL']} failed, {counts['NONE']} {ABSENT}; {len(found)} clients"
    )
    return 0 if found and not counts["FAIL"] else 1


if __name__ == "__main__":
    sys.exit(main())
