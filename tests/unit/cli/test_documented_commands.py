"""What the documents tell people to type is understood by the command line: commands, options, values."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.core import TyperGroup
from typer.exceptions import Exit, TyperException

from deploy.cli.main import PROGRAM, command_line
from tests.support.calls_in_code import ROOT

_DOCUMENTS = sorted(
    path
    for pattern in (
        "*.md",
        "docs/*.md",
        "deploy/runbooks/*.md",
        "examples/**/*.md",
        "examples/config/*",
    )
    for path in ROOT.glob(pattern)
    if path.name != "CHANGELOG.md"
)
_FENCED = re.compile(r"^```\w*\n(.*?)^```", re.MULTILINE | re.DOTALL)
_SPAN = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
_TYPED = re.compile(
    rf"^[#$ ]*(?:\S*/)?(?:docker compose exec \S+ )?(?:\.venv/bin/)?{PROGRAM} (.+)$"
)
_AFTERWARDS = re.compile(r"\s{2,}|\s#|\s\\$|\s\|\s")
"""A second column, a comment, a line that goes on, or another program that reads it."""


def _documented() -> Iterator[tuple[str, str]]:
    for path in _DOCUMENTS:
        text = path.read_text(encoding="utf-8")
        lines = [line for block in _FENCED.findall(text) for line in block.split("\n")]
        lines += text.split("\n") if path.suffix != ".md" else _SPAN.findall(_FENCED.sub("", text))
        for line in lines:
            if (typed := _TYPED.match(line)) is not None:
                yield str(path.relative_to(ROOT)), _AFTERWARDS.split(typed[1])[0]


def _misunderstood(typed: str) -> str | None:
    """Why the command line does not take it; nothing is run."""
    words = shlex.split(typed)
    command: Any = command_line()
    while isinstance(command, TyperGroup) and words and not words[0].startswith("-"):
        if words[0] not in command.commands:
            return f"no command {words[0]}"
        command = command.commands[words.pop(0)]
    if not words:
        return None  # Its name alone is a mention.
    try:
        command.make_context(PROGRAM, words)
    except Exit:
        return None  # --help and --version end here.
    except TyperException as error:
        return str(error)
    return None


@pytest.fixture(autouse=True)
def _home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An option that acts while it is parsed, as that for completion does, finds a home of its own."""
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.mark.parametrize(("document", "typed"), sorted(set(_documented())))
def test_a_documented_command_is_understood(document: str, typed: str) -> None:
    """A renamed option takes its documents along."""
    assert _misunderstood(typed) is None


def test_what_nobody_understands_is_found() -> None:
    """The guard itself: a command, an option, a missing argument."""
    assert len(set(_documented())) > 30
    assert _misunderstood("orgs sett acme") is not None
    assert _misunderstood("orgs set acme --budget 3") is not None
    assert _misunderstood("requests show a b") is not None
