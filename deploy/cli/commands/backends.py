"""``tallygate backends``: list them, take one out of use and back."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from deploy.cli.command import Call, Commands, add_command, add_group
from deploy.cli.output import table
from deploy.cli.paths import entity_path

_COLUMNS = ("id", "url", "state", "health", "max_concurrency", "timeout_s", "api_key_env")


def register(commands: Commands) -> None:
    """Add the commands."""
    backends = add_group(commands, "backends", "model backends")
    add_command(backends, "list", "list backends", show)
    for verb, summary in (
        ("drain", "send it nothing new; what runs ends in order"),
        ("restore", "use it again"),
    ):
        add_command(backends, verb, summary, partial(switch, verb)).add_argument("backend")


def show(call: Call) -> int:
    found = call.admin().get("/backends")
    call.output.result(found, table(_COLUMNS, map(_row, found["items"])))
    return 0


def switch(verb: str, call: Call) -> int:
    answer = call.admin().post(f"{entity_path('backends', call.options.backend)}/{verb}")
    call.output.result(answer, f"{answer['id']} is {answer['body']['state']}")
    return 0


def _row(backend: Mapping[str, Any]) -> dict[str, Any]:
    """Health as each dispatcher sees it; none when none reports."""
    reports = backend.get("health", ())
    return {**backend, "health": [f"{r['instance']}={r['state']}" for r in reports]}
