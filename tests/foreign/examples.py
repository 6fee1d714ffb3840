"""Examples whose packages the repository does not pin, each against a real gateway: `python -m tests.foreign.examples`.

What they print is held against what was asked, since the model echoes.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from tests.foreign.packages import CLIENTS_OF_NODE, CLIENTS_OF_PYTHON, node_with, python_with
from tests.support.harness.running_stack import RunningStack, running_stack

_EXAMPLES: Final = Path(__file__).parents[2] / "examples"
_MODEL: Final = "echo-1"
_WITHIN_S: Final = 60.0
_SAID: Final = {
    "langchain_chat.py": ("hello from a chain", "one two three four"),
    "openai_node.mjs": ("hello from node",),
    "anthropic_node.mjs": ("hello from node", "one two three four"),
    "ai_sdk.mjs": ("hello from the edge", "one two three four"),
}
"""What each asks for, and so has to print."""
_TOKENS: Final = re.compile(r"^tokens: ([1-9]\d*) in, ([1-9]\d*) out$", re.MULTILINE)


class Program(NamedTuple):
    """One example, ready to run."""

    name: str
    command: Sequence[str]
    folder: Path


def programs() -> Iterator[Program]:
    """Those whose packages can be had here."""
    if (python := python_with(CLIENTS_OF_PYTHON)) is not None:
        for name in (each for each in _SAID if each.endswith(".py")):
            yield Program(name, (str(python), name), _EXAMPLES)
    if (home := node_with(CLIENTS_OF_NODE)) is not None:
        for name in (each for each in _SAID if each.endswith(".mjs")):
            # A module is found from where the program stands.
            (home / name).write_text((_EXAMPLES / name).read_text(encoding="utf-8"))
            yield Program(name, (str(home / "node_modules/.bin/node"), name), home)


def problem_of(program: Program, stack: RunningStack) -> str | None:
    """What is wrong with what it printed."""
    where = {
        "OPENAI_BASE_URL": stack.api_url,
        "OPENAI_API_KEY": stack.first_key,
        "ANTHROPIC_BASE_URL": stack.api_url.removesuffix("/v1"),
        "ANTHROPIC_API_KEY": stack.first_key,
        "TALLYGATE_MODEL": _MODEL,
    }
    done = subprocess.run(
        program.command,
        cwd=program.folder,
        env={**os.environ, **where},
        capture_output=True,
        text=True,
        timeout=_WITHIN_S,
        check=False,
    )
    if done.returncode:
        return f"ended with {done.returncode}: {done.stderr[-500:]}"
    missing = [text for text in _SAID[program.name] if text not in done.stdout]
    if missing or _TOKENS.search(done.stdout) is None:
        return f"{missing or 'no tokens'} in {done.stdout!r}"
    return None


def main() -> int:
    """Run what can be run; 1 where one of them is wrong, and also when not one could be had."""
    found = list(programs())
    problems: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder, running_stack(Path(folder) / "state") as stack:
        for program in found:
            problem = problem_of(program, stack)
            print(f"{'ok     ' if problem is None else 'PROBLEM'} {program.name} {problem or ''}")
            problems |= {} if problem is None else {program.name: problem}
    print(f"{len(found) - len(problems)} of {len(_SAID)} examples")
    return 1 if problems or not found else 0


if __name__ == "__main__":
    sys.exit(main())
