"""``tallygate admin|ingress|limiter|dispatcher|accounting``: runs one process in this one."""

from __future__ import annotations

import runpy
from functools import partial

from deploy.cli.command import Call, Commands

_PACKAGES = {
    "admin": ("ingress.admin", "the control plane: what commands speak to"),
    "ingress": ("ingress", "the HTTP door of the public API"),
    "limiter": ("limiter_worker", "decides limits, quotas and budgets"),
    "dispatcher": ("dispatcher", "calls the backends"),
    "accounting": ("accounting", "books outcomes and writes usage"),
}


def register(commands: Commands) -> None:
    """Add the commands. A process takes its settings from the environment only."""
    for name, (package, summary) in _PACKAGES.items():
        parser = commands.add_parser(name, help=summary, description=summary)
        parser.set_defaults(run=partial(run, package), json=False)


def run(package: str, _: Call) -> int:
    """As ``python -m package`` would; the process ends by ``SystemExit`` if it has a status."""
    runpy.run_module(package, run_name="__main__", alter_sys=True)
    return 0
