"""``tallygate backends``: list them, take one out of use and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from deploy.cli.command import Call, command, noun
from deploy.cli.output import shown
from deploy.cli.paths import entity_path
from deploy.cli.table import table

_COLUMNS = ("id", "url", "state", "health", "max_concurrency", "timeout_s", "api_key_env")
_Backend = Annotated[str, typer.Argument(metavar="BACKEND", help="as in the list")]

APP = noun("backends", "Model backends.")


@command(APP, "list", "tallygate backends list", "tallygate backends list --json")
def show(call: Call) -> int:
    """List backends and their health as each dispatcher sees it."""
    found = call.admin().get("/backends")
    call.output.result(found, table(_COLUMNS, map(_row, found["items"])))
    return 0


@command(APP, "drain", "tallygate backends drain gpu-1")
def drain(call: Call, backend: _Backend) -> int:
    """Send it nothing new; what runs ends in order."""
    return _switch(call, backend, "drain")


@command(APP, "restore", "tallygate backends restore gpu-1")
def restore(call: Call, backend: _Backend) -> int:
    """Use it again."""
    return _switch(call, backend, "restore")


def _switch(call: Call, backend: str, verb: str) -> int:
    answer = call.admin().post(f"{entity_path('backends', backend)}/{verb}")
    told = shown(answer)
    call.output.result(answer, f"{told['id']} is {told['body']['state']}")
    return 0


def _row(backend: Mapping[str, Any]) -> dict[str, Any]:
    """Health as each dispatcher sees it; none when none reports."""
    reports = backend.get("health", ())
    return {**backend, "health": [f"{r['instance']}={r['state']}" for r in reports]}
