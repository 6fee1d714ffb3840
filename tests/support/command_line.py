"""The real command line, parsed but not run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from deploy.cli.main import PROGRAM, command_line


def parsed(arguments: Sequence[str]) -> tuple[str, dict[str, Any]]:
    """The words of the command and the values of its parameters.

    Raises ``typer.TyperException`` for what is not understood.
    """
    context: Any = command_line().make_context(PROGRAM, list(arguments))
    while hasattr(context.command, "resolve_command"):
        rest = [*context._protected_args, *context.args]
        name, command, rest = context.command.resolve_command(context, rest)
        context = command.make_context(name, rest, parent=context)
    return context.command_path, context.params
