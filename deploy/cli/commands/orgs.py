"""``tallygate orgs``: create or change an organization's limits, list them."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from deploy.cli.command import Call, command, noun
from deploy.cli.limits import LimitOptions, budgets_text, changed_limits
from deploy.cli.table import table

_COLUMNS = ("id", "name", "rps", "burst", "tokens_per_min", "concurrency", "budgets", "on_limit")

APP = noun("orgs", "Organizations and their limits.")


@command(
    APP,
    "set",
    "tallygate orgs set acme --rps 50 --burst 100",
    "tallygate orgs set acme --budget-usd 250 --period month --on-limit defer",
)
def change(
    call: Call,
    org: Annotated[str, typer.Argument(metavar="ORG", help="its id")],
    *,
    name: Annotated[str | None, typer.Option(metavar="NAME", help="what people call it")] = None,
    limits: LimitOptions,
) -> int:
    """Create or change one; other limits stay."""
    admin = call.admin()
    current = admin.entity("orgs", org)
    known: dict[str, Any] = current or {"name": None, "limits": {}}
    body = {
        "name": known["name"] if name is None else name,
        "limits": changed_limits(limits, known["limits"]),
    }
    written = admin.put_over("orgs", org, current, body)
    call.output.result(written, f"{org} is at version {written['version']}")
    return 0


@command(APP, "list", "tallygate orgs list")
def show(call: Call) -> int:
    """List organizations and their limits."""
    found = call.admin().get("/orgs")
    call.output.result(found, table(_COLUMNS, map(_row, found["items"])))
    return 0


def _row(org: dict[str, Any]) -> dict[str, Any]:
    limits: dict[str, Any] = org["limits"]
    return {**org, **limits, "rps": limits["requests_per_s"], "budgets": budgets_text(limits)}
