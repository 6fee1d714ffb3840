"""`tallygate`, but a process whose name stands in a file runs the code of another checkout.

Run as a module, with the words of the command line. The environment names the file, JSON of process to checkout; it is
read whenever a process starts, so that a restart is an upgrade, or the way back.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Final

from deploy.cli.main import main
from deploy.embedded import up
from deploy.embedded.process import ProcessSpec
from deploy.embedded.stack import Stack

CHECKOUTS: Final = "TALLYGATE_TEST_CHECKOUTS"
"""Path of that file."""


class MixedStack(Stack):
    """A stack of processes of several commits."""

    def role_spec(self, name: str) -> ProcessSpec:
        """As ours, with the interpreter of its checkout, which finds its own code alone."""
        spec = super().role_spec(name)
        place = json.loads(Path(os.environ[CHECKOUTS]).read_text()).get(name)
        if place is None:
            return spec
        environment = {**spec.environment, "PYTHONSAFEPATH": "1"}
        python = str(Path(place) / ".venv/bin/python")
        return replace(spec, argv=(python, *spec.argv[1:]), environment=environment)


if __name__ == "__main__":
    # The command line makes its stack by this name.
    setattr(up, "Stack", MixedStack)  # noqa: B010  # mypy knows no other module's names as variables
    sys.exit(main())
