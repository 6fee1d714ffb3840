"""``tallygate keys``: create, list, revoke, rotate."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from deploy.cli.command import Call, Commands, add_command, add_group, finite, given
from deploy.cli.limits import add_limit_options, budgets_text, changed_limits
from deploy.cli.output import table

_COLUMNS = ("id", "org", "name", "display", "rps", "budgets", "models", "state", "created")


def register(commands: Commands) -> None:
    """Add the commands."""
    keys = add_group(commands, "keys", "API keys")
    create_parser = add_command(keys, "create", "make a key and print its secret once", create)
    create_parser.add_argument("--org", required=True)
    create_parser.add_argument("--name")
    create_parser.add_argument("--project")
    create_parser.add_argument("--user")
    create_parser.add_argument("--model", action="append", help="only this model; repeatable")
    add_limit_options(create_parser, ("day", "month", "total"))
    add_command(keys, "list", "list keys, without their secrets", show)
    revoke_parser = add_command(keys, "revoke", "end a key at once", revoke)
    revoke_parser.add_argument("key_id")
    rotate_parser = add_command(keys, "rotate", "replace a key by a new one", rotate)
    rotate_parser.add_argument("key_id")
    rotate_parser.add_argument(
        "--grace-s", type=finite, default=0, help="seconds the old secret still works"
    )


def create(call: Call) -> int:
    options = call.options
    limits = changed_limits(options, {})
    body = given(
        org=options.org,
        name=options.name,
        project=options.project,
        user=options.user,
        models=options.model,
        limits=limits or None,
    )
    return _show_secret(call, call.admin().post("/keys", body))


def show(call: Call) -> int:
    found = call.admin().get("/keys")
    call.output.result(found, table(_COLUMNS, map(_row, found["items"])))
    return 0


def revoke(call: Call) -> int:
    answer = call.admin().post(f"/keys/{call.options.key_id}/revoke")
    call.output.result(answer, f"{call.options.key_id} is revoked")
    _warn_unless_applied(call, answer)
    return 0


def rotate(call: Call) -> int:
    body = {"grace_s": call.options.grace_s}
    return _show_secret(call, call.admin().post(f"/keys/{call.options.key_id}/rotate", body))


def _show_secret(call: Call, answer: dict[str, Any]) -> int:
    call.output.result(answer, answer["key"])
    call.output.tell(f"{answer['key_id']} of {answer['org']}; this secret is not shown again")
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
