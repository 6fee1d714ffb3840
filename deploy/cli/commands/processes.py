"""``tallygate admin|ingress|batches|limiter|dispatcher|accounting``: becomes one process of the gateway."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

from deploy.cli.command import command, verbs

APP = verbs()


@command(APP, "admin", "tallygate admin")
def admin() -> int:
    """Run the control plane: what commands speak to."""
    _become("ingress.admin")


@command(APP, "ingress", "tallygate ingress")
def ingress() -> int:
    """Run the HTTP door of the public API."""
    _become("ingress")


@command(APP, "batches", "tallygate batches")
def batches() -> int:
    """Run the lines of batches; clients ask ingress for them."""
    _become("ingress.batches")


@command(APP, "limiter", "tallygate limiter")
def limiter() -> int:
    """Run what decides limits, quotas and budgets."""
    _become("limiter_worker")


@command(APP, "dispatcher", "tallygate dispatcher")
def dispatcher() -> int:
    """Run what calls the backends."""
    _become("dispatcher")


@command(APP, "accounting", "tallygate accounting")
def accounting() -> int:
    """Run what books outcomes and writes usage."""
    _become("accounting")


def _become(package: str) -> NoReturn:
    """Replace this process by ``python -m package``: a server carries no command line with it.

    Pid, environment and open files stay; all settings come from the environment. The current folder
    is not searched for modules (``-P``).
    """
    os.execv(sys.executable, [sys.executable, "-P", "-m", package])  # noqa: S606 - its own interpreter
