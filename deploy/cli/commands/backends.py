"""``tallygate backends``: list them, take one out of use and back, find out what one can do."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from deploy.cli.backend_check_options import CheckOptions
from deploy.cli.command import Call, command, noun
from deploy.cli.overriding import OverrideOptions, put_in_force, tell_applied
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


@command(
    APP,
    "drain",
    "tallygate backends drain gpu-1",
    "tallygate backends drain gpu-1 --for 2h --reason 'new driver'",
)
def drain(call: Call, backend: _Backend, *, options: OverrideOptions) -> int:
    """Send it nothing new; what runs ends in order."""
    return put_in_force(call, "drain", backend, options)


@command(APP, "restore", "tallygate backends restore gpu-1")
def restore(call: Call, backend: _Backend) -> int:
    """Use it again, by whichever way it was drained."""
    answer = call.admin().post(f"{entity_path('backends', backend)}/restore")
    return tell_applied(call, answer, f"{backend} is in use again")


@command(
    APP,
    "check",
    "tallygate backends check http://gpu-1:8000/v1",
    "tallygate backends check http://gpu-1:8000/v1 --model llama-3 --name gpu-1 --write",
    "tallygate backends check https://api.openai.com/v1 --key-env BACKEND_OPENAI_API_KEY",
)
def check(
    call: Call,
    address: Annotated[str, typer.Argument(metavar="URL", help="what OPENAI_BASE_URL would be")],
    *,
    options: CheckOptions,
) -> int:
    """Ask a server what it supports, and say how to configure it.

    It is asked a dozen short questions, with few tokens each, and changes nothing unless told to write. Exit code 1
    when no model answered, 3 when one did and reports no usage.
    """
    from deploy.cli.backend_check import run_check  # noqa: PLC0415 - help needs no HTTP client

    return run_check(call, address, options)


def _row(backend: dict[str, Any]) -> dict[str, Any]:
    """Health as each dispatcher sees it; none when none reports."""
    reports = backend.get("health", ())
    state = "drained" if backend.get("drained") else backend["state"]
    return backend | {"state": state, "health": [f"{r['instance']}={r['state']}" for r in reports]}
