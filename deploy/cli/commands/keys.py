"""``tallygate keys``: create, list, revoke, rotate."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Literal, get_args

import typer

from deploy.cli.command import Call, command, given, noun
from deploy.cli.limits import LimitOptions, budgets_text, changed_limits
from deploy.cli.options import duration, moment_ms
from deploy.cli.output import shown
from deploy.cli.paths import entity_path
from deploy.cli.table import table
from schemas.operations import KeyScope

_COLUMNS = (
    *(
        "id",
        "org",
        "name",
        "display",
        "rps",
        "budgets",
        "models",
        "scopes",
        "networks",
        "pepper",
        "signing",
    ),
    *("state", "created", "expires"),
)
SCOPES = get_args(KeyScope)
_KeyId = Annotated[str, typer.Argument(metavar="KEY_ID", help="as in the list")]

APP = noun("keys", "API keys.")


@command(
    APP,
    "create",
    "tallygate keys create --org acme --name ci",
    "tallygate keys create --org acme --model echo --rps 5 --budget-usd 10 --period month",
    "tallygate keys create --org acme --scope inference --network 10.0.0.0/8 --expires 2027-01-01",
    "tallygate keys create --org acme --signed --json",
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
    scope: Annotated[
        list[str] | None,
        typer.Option(metavar="SCOPE", help=f"only this, of {', '.join(SCOPES)}; repeatable"),
    ] = None,
    network: Annotated[
        list[str] | None,
        typer.Option(metavar="CIDR", help="only from this network or address; repeatable"),
    ] = None,
    expires: Annotated[
        int | None,
        typer.Option(parser=moment_ms, metavar="TIME", help="RFC 3339; when it ends by itself"),
    ] = None,
    signed: Annotated[
        bool,
        typer.Option("--signed", help="its requests have to be signed; prints signing_secret"),
    ] = False,
    service_tier: Annotated[
        Literal["default", "flex"] | None,
        typer.Option(help="the tier of requests that name none"),
    ] = None,
    limits: LimitOptions,
) -> int:
    """Make a key and print its secret once."""
    body = given(
        org=org,
        name=name,
        project=project,
        user=user,
        models=model,
        scopes=scope,
        networks=network,
        expires_at_ms=expires,
        signed=signed or None,
        service_tier=service_tier,
        limits=changed_limits(limits, {}) or None,
    )
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


@command(APP, "rotate", "tallygate keys rotate key_0190a7c2 --grace 24h")
def rotate(
    call: Call,
    key_id: _KeyId,
    *,
    grace: Annotated[
        float,
        typer.Option(
            parser=duration,
            metavar="TIME",
            help="how long earlier secrets still work, such as 24h; 0 ends them at once",
        ),
    ] = 0,
) -> int:
    """Give a key another secret and print it once.

    The key's id stays, and with it limits, spending and jobs. Earlier secrets go on working for the grace, none of them
    longer than it did before; without one they all end now.
    """
    path = f"{entity_path('keys', key_id)}/rotate"
    return _show_secret(call, call.admin().post(path, {"grace_s": grace}))


def _show_secret(call: Call, answer: dict[str, Any]) -> int:
    told = shown(answer)
    signing = told.get("signing_secret")
    lines = [told["key"], *([] if signing is None else [f"signing_secret: {signing}"])]
    call.output.result(answer, "\n".join(lines))
    call.output.tell(f"{told['key_id']} of {told['org']}; this secret is not shown again")
    for old in told.get("earlier", ()):
        call.output.tell(f"{old['display']} works until {_time(old['expires_at_ms'])}")
    _warn_unless_applied(call, answer)
    return 0


def _warn_unless_applied(call: Call, answer: dict[str, Any]) -> None:
    if answer.get("applied") is False:
        call.output.tell("warning: not every ingress has applied it yet; see `tallygate doctor`")


def _row(key: dict[str, Any]) -> dict[str, Any]:
    limits, expires_at_ms = key["limits"], key.get("expires_at_ms")
    return key | {
        "rps": limits["requests_per_s"],
        "budgets": budgets_text(limits),
        "state": "active" if key["revoked_at_ms"] is None else "revoked",
        "created": _time(key["created_at_ms"]),
        "expires": None if expires_at_ms is None else _time(expires_at_ms),
    }


def _time(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1_000, UTC).isoformat(timespec="seconds")
