"""What every command has in common: its options, its output, the way to the gateway."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from deploy.cli.output import Output

if TYPE_CHECKING:
    from deploy.cli.client import AdminClient

# argparse has no public name for what add_subparsers returns.
Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"  # noqa: SLF001


@dataclass(frozen=True)
class Call:
    """One invocation: its options and where it speaks."""

    options: argparse.Namespace
    output: Output

    def admin(self) -> AdminClient:
        """The admin API of the gateway that the user means."""
        # Imported here, because `--help` and the processes should not wait for an HTTP client.
        from deploy.cli.address import admin_url  # noqa: PLC0415
        from deploy.cli.client import AdminClient  # noqa: PLC0415

        return AdminClient(admin_url(self.options.url))


Run: TypeAlias = Callable[[Call], int]


def add_command(commands: Commands, name: str, summary: str, run: Run) -> argparse.ArgumentParser:
    """A command with the options that all have."""
    parser = commands.add_parser(name, help=summary, description=summary)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--url", help="admin API, such as http://127.0.0.1:8443")
    parser.set_defaults(run=run)
    return parser


def add_group(commands: Commands, name: str, summary: str) -> Commands:
    """A noun, whose verbs follow."""
    parser = commands.add_parser(name, help=summary, description=summary)
    verbs: Commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    return verbs


def positive(text: str) -> int:
    """An option's whole number above 0."""
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


def finite(text: str) -> float:
    """An option's number; JSON has none that is not finite."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(text)
    return number


def given(**values: Any) -> dict[str, Any]:
    """The values that were given."""
    return {name: value for name, value in values.items() if value is not None}
