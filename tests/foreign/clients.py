"""Clients that people use, through a real gateway, against answers that are known to the byte: `python -m tests.foreign.clients`.

Each client is a program of its own with its own packages. A case is right when the client makes of it what it makes of the backend's
answer without a gateway: its texts, its tools, its counts, its own kind of error.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.foreign.packages import CLIENTS_OF_NODE, CLIENTS_OF_PYTHON, node_with, python_with
from tests.support.fakes.running_backend import RunningBackend, running_backend
from tests.support.fakes.shapes.conforming import CONFORMING
from tests.support.harness.running_stack import RunningStack, running_stack

PROGRAMS = Path(__file__).parent / "programs"
_WITHIN_S = 200.0
_OWN: Mapping[str, Mapping[str, str]] = {
    "openai-python": {"no such model": "NotFoundError", "bad key": "AuthenticationError"},
    "langchain-openai": {"no such model": "OpenAIModelNotFoundError"},
    "openai-node": {"no such model": "NotFoundError", "bad key": "AuthenticationError"},
    "ai-sdk openai-compatible": {"no such model": "AI_APICallError"},
    "ai-sdk openai": {"no such model": "AI_APICallError"},
}
"""What only a gateway answers, by the client's name of the error."""
_WORDS = "it broke"
"""What the backend says where it breaks off; how the error is called is the gateway's."""
_CODES = {"no such model": "404 model_not_found", "bad key": "401 invalid_api_key"}
_MUST_SUCCEED = (
    "sync",
    "stream usage",
    "tools",
    "tools in a stream",
    "retry of a 429",
    "retry of a 500",
)


def is_right(client: str, case: str, saw: Any, direct: Any) -> bool:
    """Whether the client saw what it sees without a gateway; what must succeed did."""
    if case in _CODES:
        return bool(saw == f"{_OWN[client][case]} {_CODES[case]}")
    if case == "breaks off":
        return _WORDS in str(saw)
    return bool(saw == direct) and not (case in _MUST_SUCCEED and isinstance(saw, str))


def programs() -> list[tuple[str, Sequence[str], Path]]:
    """The programs that can be run here: client, command, folder."""
    found: list[tuple[str, Sequence[str], Path]] = []
    python = python_with(CLIENTS_OF_PYTHON)
    if python is not None:
        found += [
            ("openai-python", (str(python), str(PROGRAMS / "openai_python.py")), PROGRAMS),
            ("langchain-openai", (str(python), str(PROGRAMS / "langchain_python.py")), PROGRAMS),
        ]
    home = node_with(CLIENTS_OF_NODE)
    if home is not None:
        # A module is found from where the program stands.
        program = home / "clients.mjs"
        program.write_text((PROGRAMS / "clients.mjs").read_text())
        found.append(("", (str(home / "node_modules/.bin/node"), str(program)), home))
    return found


def _configure(stack: RunningStack, backend: RunningBackend) -> None:
    """A backend for each model, so that the breaker of one spares no other."""
    with httpx.Client(base_url=stack.admin_url, timeout=30, trust_env=False) as admin:
        for model in CONFORMING:
            name = model.replace("fake-", "c-")
            admin.put(f"/backends/{name}", json={"url": backend.url}).raise_for_status()
            body = {
                "backends": [{"backend": name}],
                "input_usd_per_mtok": "0.5",
                "output_usd_per_mtok": "1.5",
            }
            admin.put(f"/models/{model}", json=body).raise_for_status()
    time.sleep(2)


def _told(
    name: str, command: Sequence[str], folder: Path, url: str, key: str
) -> dict[tuple[str, str], Any]:
    """What a program says, by client and case."""
    where = {**os.environ, "GATEWAY_URL": url, "GATEWAY_KEY": key}
    done = subprocess.run(
        command,
        cwd=folder,
        env=where,
        capture_output=True,
        text=True,
        timeout=_WITHIN_S,
        check=False,
    )
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    told = {(line.get("client", name), line["case"]): line["saw"] for line in lines}
    if done.returncode:
        told[name or "node", "(program)"] = done.stderr[-500:]
    return told


@contextmanager
def _backend(folder: Path, name: str) -> Iterator[RunningBackend]:
    with running_backend(
        name, folder / f"{name}.jsonl", module="tests.support.fakes.hostile_backend"
    ) as backend:
        yield backend


def main() -> int:
    """Run what can be run, with and without a gateway; 1 where they differ, 0 also when no client could be had."""
    direct: dict[tuple[str, str], Any] = {}
    through: dict[tuple[str, str], Any] = {}
    found = programs()
    with tempfile.TemporaryDirectory() as named, ExitStack() as running:
        folder = Path(named)
        alone = running.enter_context(_backend(folder, "alone"))
        behind = running.enter_context(_backend(folder, "behind"))
        stack = running.enter_context(running_stack(folder / "state"))
        _configure(stack, behind)
        for name, command, where in found:
            direct |= _told(name, command, where, alone.url, "none")
            through |= _told(name, command, where, stack.api_url, stack.first_key)
    wrong = 0
    for (client, case), saw in through.items():
        ok = case != "(program)" and is_right(client, case, saw, direct.get((client, case)))
        wrong += not ok
        line = f"{'ok     ' if ok else 'PROBLEM'} {client:25} {case:22} {_shown(saw)}"
        print(
            line
            if ok or case in _CODES
            else f"{line}; without a gateway: {_shown(direct.get((client, case)))}"
        )
    clients = ", ".join(dict.fromkeys(client for client, _ in through)) or "NONE"
    print(f"{len(through) - wrong} of {len(through)} cases; clients: {clients}")
    return 1 if wrong else 0


def _shown(saw: Any) -> str:
    return json.dumps(saw, ensure_ascii=False)


if __name__ == "__main__":
    sys.exit(main())
