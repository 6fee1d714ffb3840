"""``tallygate orgs``: create or change an organization's limits, list them."""

from __future__ import annotations

from typing import Any

from deploy.cli.command import Call, Commands, add_command, add_group
from deploy.cli.limits import add_limit_options, budgets_text, changed_limits
from deploy.cli.output import table

_COLUMNS = ("id", "name", "rps", "burst", "tokens_per_min", "concurrency", "budgets", "on_limit")


def register(commands: Commands) -> None:
    """Add the commands."""
    orgs = add_group(commands, "orgs", "organizations and their limits")
    set_parser = add_command(orgs, "set", "create or change one; other limits stay", change)
    set_parser.add_argument("org")
    set_parser.add_argument("--name")
    add_limit_options(set_parser, ("day", "month", "total"))
    add_command(orgs, "list", "list organizations", show)


def change(call: Call) -> int:
    options, admin = call.options, call.admin()
    current = admin.entity("orgs", options.org)
    known: dict[str, Any] = current or {"name": None, "limits": {}}
    body = {
        "name": known["name"] if options.name is None else options.name,
        "limits": changed_limits(options, known["limits"]),
    }
    written = admin.put_over("orgs", options.org, current, body)
    call.output.result(written, f"{options.org} is at version {written['version']}")
    return 0


def show(call: Call) -> int:
    found = call.admin().get("/orgs")
    call.output.result(found, table(_COLUMNS, map(_row, found["items"])))
    return 0


def _row(org: dict[str, Any]) -> dict[str, Any]:
    limits: dict[str, Any] = org["limits"]
    return {**org, **limits, "rps": limits["requests_per_s"], "budgets": budgets_text(limits)}
