"""The command line described by itself, for its reference page and for tests."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import typer

from deploy.cli.main import PROGRAM, command_line


@dataclass(frozen=True)
class ParameterDoc:
    """One argument or option: how it is written, what it means, where else its value may stand."""

    usage: str
    text: str
    variable: str | None


@dataclass(frozen=True)
class CommandDoc:
    """One command: its words, what it does in one line and in full, what can be pasted."""

    words: str
    summary: str
    text: str
    parameters: tuple[ParameterDoc, ...]
    examples: tuple[str, ...]


def command_tree() -> Iterator[CommandDoc]:
    """Every command that can be run, in the order of the help."""
    yield from _below(command_line(), None, PROGRAM)


def _below(command: Any, parent: Any, words: str) -> Iterator[CommandDoc]:
    context = typer.Context(command, parent=parent, info_name=words.rpartition(" ")[2])
    commands = getattr(command, "commands", {})
    for name, below in commands.items():
        yield from _below(below, context, f"{words} {name}")
    if not commands:
        text = inspect.cleandoc(command.help)
        yield CommandDoc(
            words=words,
            summary=text.partition("\n")[0],
            text=text,
            parameters=tuple(_parameters(command, context)),
            examples=tuple(line.strip() for line in command.epilog.splitlines()[2:]),
        )


def _parameters(command: Any, context: Any) -> Iterator[ParameterDoc]:
    for parameter in command.params:
        usage, text = parameter.get_help_record(context)
        yield ParameterDoc(usage, " ".join(text.split()), parameter.envvar)
