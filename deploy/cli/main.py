"""The command ``tallygate``: reads the command line, runs one command, returns its exit code.

Invariant: an expected failure is three lines on stderr and never a traceback.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, MutableMapping, Sequence
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from typer._completion_classes import completion_init
from typer.completion import install_callback, show_callback
from typer.core import TyperGroup
from typer.main import get_group

from deploy.cli.command import Group, Surroundings
from deploy.cli.output import CommandFailed, Exit, Output
from deploy.terminal import ReaderLeft, say
from schemas.printable import one_line

if TYPE_CHECKING:
    import httpx

PROGRAM = "tallygate"
_MODULES = {
    "up": "up",
    "scale": "scale",
    "restart": "scale",
    "certs": "certs",
    "admin": "processes",
    "ingress": "processes",
    "batches": "processes",
    "limiter": "processes",
    "dispatcher": "processes",
    "accounting": "processes",
    "keys": "keys",
    "orgs": "orgs",
    "models": "models",
    "prices": "prices",
    "backends": "backends",
    "routes": "routes",
    "config": "config",
    "usage": "usage",
    "requests": "requests",
    "audit": "audit",
    "ledger": "ledger",
    "reconcile": "reconcile",
    "topics": "topics",
    "lag": "lag",
    "schemas": "schemas",
    "dlq": "dlq",
    "webhooks": "webhooks",
    "replay": "replay",
    "doctor": "doctor",
    "bench": "bench",
}
"""Each command or noun, in the order of the help, and its module in ``deploy/cli/commands``."""


class _Commands(MutableMapping[str, Any]):
    """The commands by name; a module is imported when its command is asked for."""

    def __init__(self) -> None:
        self._added: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name in self._added:
            return self._added[name]
        app: typer.Typer = import_module(f"deploy.cli.commands.{_MODULES[name]}").APP
        group = get_group(app)
        return group if app.info.name == name else group.commands[name]

    def __setitem__(self, name: str, command: Any) -> None:
        self._added[name] = command

    def __delitem__(self, name: str) -> None:
        del self._added[name]

    def __iter__(self) -> Iterator[str]:
        return iter([*_MODULES, *self._added])

    def __len__(self) -> int:
        return len(_MODULES) + len(self._added)


class _Root(Group):
    """The whole command line, whose commands are imported when they are asked for."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.commands = _Commands()

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 - Typer's signature
        return list(self.commands)


def command_line() -> TyperGroup:
    """The whole command line, completion included."""
    completion_init()
    app = typer.Typer(name=PROGRAM, cls=_Root, rich_markup_mode=None, add_completion=False)
    app.callback(help="A self-hosted inference gateway.")(_root)
    return get_group(app)


def _tell_version(wanted: bool) -> None:  # noqa: FBT001 - Typer passes the flag's value
    if wanted:
        say(f"{PROGRAM} {_installed_version()}", sys.stdout)
        raise typer.Exit


def _root(
    *,
    _version: Annotated[
        bool, typer.Option("--version", callback=_tell_version, help="print the version and end")
    ] = False,
    # Typer's own two are no flags for its parser, which would load a validator for every command.
    _install: Annotated[
        bool,
        typer.Option(
            "--install-completion", callback=install_callback, help="complete words in this shell"
        ),
    ] = False,
    _show: Annotated[
        bool,
        typer.Option(
            "--show-completion", callback=show_callback, help="print what would be installed"
        ),
    ] = False,
) -> None:
    """Options that stand before the command."""


def run(
    arguments: Sequence[str], output: Output, transport: httpx.BaseTransport | None = None
) -> int:
    """The exit code of one command."""
    try:
        return _run(list(arguments), Surroundings(output, transport))
    except CommandFailed as failure:
        output.tell(failure.text)
        return failure.code
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    except ReaderLeft:
        # Nothing may be flushed into the pipe on the way out.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.FAILURE


def _run(arguments: list[str], surroundings: Surroundings) -> int:
    odd = [argument for argument in arguments if not _is_text(argument)]
    if odd:
        why = f"{odd[0]!r} is not UTF-8"
        raise CommandFailed("an argument is no text", why, "write it anew", Exit.USAGE)
    try:
        ended: int | None = command_line().main(
            arguments, PROGRAM, standalone_mode=False, obj=surroundings
        )
    except typer.TyperException as error:
        context = getattr(error, "ctx", None)
        path = context.command_path if context else PROGRAM
        raise CommandFailed(
            "the command line is not understood",
            # Typer quotes the kind of error from its validator.
            one_line(error.format_message().replace("Value error, ", "")),
            f"see {path} --help",
            Exit.USAGE,
        ) from error
    return ended or Exit.OK


def main() -> NoReturn:
    """The console script."""
    sys.exit(run(sys.argv[1:], Output(sys.stdout, sys.stderr, as_json=False)))


def _is_text(argument: str) -> bool:
    """Whether the argument can be sent; bytes that are not UTF-8 come as what no encoding knows."""
    try:
        argument.encode()
    except UnicodeEncodeError:
        return False
    return True


def _installed_version() -> str:
    try:
        return version(PROGRAM)
    except PackageNotFoundError:
        return "(not installed)"


if __name__ == "__main__":
    main()
