"""``tallygate orgs``: create or change an organization's limits, list them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import typer

from deploy.cli.command import Call, command, given, noun
from deploy.cli.limits import LimitOptions, budgets_text, changed_limits
from deploy.cli.output import CommandFailed, Exit
from deploy.cli.table import table

_COLUMNS = (
    "id",
    "name",
    "rps",
    "burst",
    "tokens_per_min",
    "concurrency",
    "budgets",
    "on_limit",
    "service",
)

APP = noun("orgs", "Organizations and their limits.")


@command(
    APP,
    "set",
    "tallygate orgs set acme --rps 50 --burst 100",
    "tallygate orgs set acme --budget-usd 250 --period month --on-limit defer",
    "tallygate orgs set acme --budget-service deny",
)
def change(
    call: Call,
    org: Annotated[str, typer.Argument(metavar="ORG", help="its id")],
    *,
    name: Annotated[str | None, typer.Option(metavar="NAME", help="what people call it")] = None,
    budget_service: Annotated[
        Literal["allow", "deny", "last_known", "off"] | None,
        typer.Option(help="ask the external budget service; what holds while it is silent"),
    ] = None,
    remainder_of: Annotated[
        Literal["organization", "key"] | None,
        typer.Option(help="whose spend counts against a remainder that it tells"),
    ] = None,
    service_tier: Annotated[
        Literal["default", "flex"] | None,
        typer.Option(help="the tier of requests that name none"),
    ] = None,
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
    asked = _changed_service(known.get("budget_service"), budget_service, remainder_of)
    if asked is not None or "budget_service" in known:
        body["budget_service"] = asked
    if "webhooks" in known:
        body["webhooks"] = known["webhooks"]
    tier = service_tier or known.get("service_tier")
    if tier is not None:
        body["service_tier"] = tier
    written = admin.put_over("orgs", org, current, body)
    call.output.result(written, f"{org} is at version {written['version']}")
    return 0


def _changed_service(
    current: dict[str, Any] | None, while_down: str | None, remainder_of: str | None
) -> dict[str, Any] | None:
    """Whether and how the budget service is asked; what is not mentioned stays."""
    if while_down == "off" or (current is None and while_down is None):
        if remainder_of is not None:
            raise CommandFailed(
                "--remainder-of needs a budget service",
                "nobody is asked for a remainder otherwise",
                "give --budget-service as well, such as --budget-service deny",
                Exit.USAGE,
            )
        return None
    return dict(current or {}) | given(while_down=while_down, remainder_of=remainder_of)


@command(APP, "list", "tallygate orgs list")
def show(call: Call) -> int:
    """List organizations and their limits."""
    found = call.admin().get("/orgs")
    call.output.result(found, table(_COLUMNS, map(_row, found["items"])))
    return 0


def _row(org: dict[str, Any]) -> dict[str, Any]:
    limits: dict[str, Any] = org["limits"]
    service = (org.get("budget_service") or {}).get("while_down")
    told = {"rps": limits["requests_per_s"], "budgets": budgets_text(limits), "service": service}
    return {**org, **limits, **told}
