"""``tallygate keys``: create, list, revoke, rotate."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from deploy.cli.command import Call, command, given, noun
from deploy.cli.limits import LimitOptions, budgets_text, changed_limits
from deploy.cli.options import decimal
from deploy.cli.output import shown
from deploy.cli.paths import entity_path
from deploy.cli.table import table

_COLUMNS = ("id", "org", "name", "display", "rps", "budgets", "models", "state", "created")
_KeyId = Annotated[str, typer.Argument(metavar="KEY_ID", help="as in the list")]

APP = noun("keys", "API keys.")


@command(
    APP,
    "create",
    "tallygate keys create --org acme --name ci",
    "tallygate keys create --org acme --model echo --rps 5 --budget-usd 10 --period month",
    "TALLYGATE_KEY=$(tallygate keys create --org acme)",
)
def create(
    call: Call,
    *,
    org: Annotated[str, typer.Option(metavar="ORG", help="whose key it is")],
    name: Annotated[str | None, typer.Option(metavar="NAME", help="what people call it")] = None,
    project: Annotated[
        str | None, typer.Option(metavar="PROJECT", help="of the organization")
    ] = None,
    user: Annotated[str | None, typer.Option(metavar="USER", help="of the organization")] = None,
    model: Annotated[
        list[str] | None, typer.Option(metavar="MODEL", help="only this model; repeatable")
    ] = None,
    limits: LimitOptions,
) -> int:
    """Make a key and print its secret once."""
    wanted = changed_limits(limits, {}) or None
    body = given(org=org, name=name, project=project, user=user, models=model, limits=wanted)
    return _show_secret(call, call.admin().post("/keys", body))


@command(APP, "list", "tallygate keys list")
def show(call: Call) -> int:
    """List keys, without their secrets."""
    found = call.admin().get("/keys")
    call.output.result(found, table(_COLUMNS, map(_row, found["items"])))
    return 0


@command(APP, "revoke", "tallygate keys revoke key_0190a7c2")
def revoke(call: Call, key_id: _KeyId) -> int:
    """End a key at once."""
    answer = call.admin().post(f"{entity_path('keys', key_id)}/revoke")
    call.output.result(answer, f"{key_id} is revoked")
    _warn_unless_applied(call, answer)
    return 0


@command(APP, "rotate", "tallygate keys rotate key_0190a7c2 --grace-s 3600")
def rotate(
    call: Call,
    key_id: _KeyId,
    *,
    grace_s: Annotated[
        float,
        typer.Option(parser=decimal, metavar="N", help="seconds the old secret still works"),
    ] = 0,
) -> int:
    """Replace a key by a new one, whose secret is printed once."""
    path = f"{entity_path('keys', key_id)}/rotate"
    return _show_secret(call, call.admin().post(path, {"grace_s": grace_s}))


def _show_secret(call: Call, answer: dict[str, Any]) -> int:
    told = shown(answer)
    call.output.result(answer, told["key"])
    call.output.tell(f"{told['key_id']} of {told['org']}; this secret is not shown again")
    _warn_unless_applied(call, answer)
    return 0


def _warn_unless_applied(call: Call, answer: dict[str, Any]) -> None:
    if answer.get("applied") is False:
        call.output.tell("warning: not every ingress has applied it yet; see `tallygate doctor`")


def _row(key: dict[str, Any]) -> dict[str, Any]:
    limits = key["limits"]
    created = datetime.fromtimestamp(key["created_at_ms"] / 1_000, UTC)
    state = "active" if key["revoked_at_ms"] is None else "revoked"
    return key | {
        "rps": limits["requests_per_s"],
        "budgets": budgets_text(limits),
        "state": state,
        "created": created.isoformat(timespec="seconds"),
    }
