"""The command ``tallygate``: reads the command line, runs one command, returns its exit code.

Invariant: an expected failure is three lines on stderr and never a traceback.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import NoReturn

from deploy.cli.command import Call, Commands
from deploy.cli.commands import (
    audit,
    backends,
    config,
    dlq,
    doctor,
    keys,
    lag,
    ledger,
    models,
    orgs,
    processes,
    reconcile,
    requests,
    topics,
    up,
    usage,
)
from deploy.cli.output import CommandFailed, Exit, Output
from schemas.printable import printable

_INTERRUPTED = 130
_MODULES = (
    up, processes, keys, orgs, models, backends, config, usage, requests, audit, ledger, reconcile,
    topics, lag, dlq, doctor,
)  # fmt: skip


class _Parser(argparse.ArgumentParser):
    """Errors in the command line have the same form as all others."""

    def error(self, message: str) -> NoReturn:
        failure = CommandFailed(
            "the command line is not understood", message, f"see {self.prog} --help", Exit.USAGE
        )
        self.exit(failure.code, printable(failure.text) + "\n")


def create_parser() -> argparse.ArgumentParser:
    """The whole command line."""
    parser: argparse.ArgumentParser = _Parser(
        prog="tallygate", description="A self-hosted inference gateway."
    )
    parser.add_argument("--version", action="version", version=f"tallygate {_version()}")
    commands: Commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for module in _MODULES:
        module.register(commands)
    return parser


def run(arguments: Sequence[str], output: Output) -> int:
    """The exit code of one command."""
    odd = [argument for argument in arguments if not _is_text(argument)]
    if odd:
        why = f"{odd[0]!r} is not UTF-8"
        output.tell(CommandFailed("an argument is no text", why, "write it anew").text)
        return Exit.USAGE
    options = create_parser().parse_args(arguments)
    call = Call(options, Output(output.data, output.story, options.json))
    try:
        return int(options.run(call))
    except CommandFailed as failure:
        output.tell(failure.text)
        return failure.code
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:
        # The reader left, as `head` does. Nothing may be flushed into the pipe on the way out.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.FAILURE


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


def _version() -> str:
    try:
        return version("tallygate")
    except PackageNotFoundError:
        return "(not installed)"


if __name__ == "__main__":
    main()
