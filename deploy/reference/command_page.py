"""The generated page about the command line: what every ``--help`` says, in one place."""

from __future__ import annotations

from collections.abc import Iterator

from deploy.cli.reference import CommandDoc, command_tree
from deploy.reference.markdown import code, page, prose, table


def command_page() -> str:
    """A section for every command."""
    return page(
        "Command line",
        "`deploy/cli/commands`",
        "Data goes to stdout, everything else to stderr. Exit codes: 0 done, 1 failed or not as it should be, 2 not understood,\n"
        "3 done in part, 4 refused by the gateway, 5 the gateway failed, 130 interrupted. `--json` prints one object, or one a line.\n"
        "Colour and bars are for terminals only; `NO_COLOR` takes the colour away.",
        *(part for found in command_tree() for part in _section(found)),
    )


def _section(found: CommandDoc) -> Iterator[str]:
    yield f"## {found.words}"
    yield prose(found.text)
    if found.parameters:
        rows = [(code(one.usage), one.text) for one in found.parameters]
        yield table(("parameter", "meaning"), rows)
    yield "\n".join(["```sh", *found.examples, "```"])
