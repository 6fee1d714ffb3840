"""``tallygate webhooks``: where an organization is told of what happened, its secrets, and messages delivered anew."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import typer

from deploy.cli.command import Call, command, given, noun
from deploy.cli.options import Org, duration, positive, whole
from deploy.cli.output import CommandFailed, Exit, shown
from deploy.cli.table import table
from schemas.webhooks import EVENT_KINDS

_COLUMNS = ("id", "org", "type", "state", "happened", "tries", "next", "answer")
_TIMEOUT_S = 40.0
_OrgId = Annotated[str, typer.Argument(metavar="ORG", help="its id")]
_Since = Annotated[
    float | None,
    typer.Option(parser=duration, metavar="TIME", help="of what happened since, such as 2h or 7d"),
]

APP = noun("webhooks", "What organizations are told of, and whether it arrived.")


@command(
    APP,
    "set",
    "tallygate webhooks set acme --hook https://hooks.example/tallygate",
    "tallygate webhooks set acme --hook https://hooks.example/in --event threshold",
    "tallygate webhooks set acme --allow https://hooks.example/jobs",
    "tallygate webhooks set acme --sign-with 2 --sign-with 1",
    "tallygate webhooks set acme --off",
)
def change(
    call: Call,
    org: _OrgId,
    *,
    hook: Annotated[str | None, typer.Option(metavar="URL", help="where it is told")] = None,
    allow: Annotated[
        list[str] | None,
        typer.Option(metavar="URL", help="what requests may name begins with this; repeatable"),
    ] = None,
    event: Annotated[
        list[str] | None,
        typer.Option(metavar="KIND", help=f"only this, of {', '.join(EVENT_KINDS)}; repeatable"),
    ] = None,
    sign_with: Annotated[
        list[int] | None,
        typer.Option(parser=whole, metavar="N", help="generation of a secret; repeatable, two"),
    ] = None,
    off: Annotated[bool, typer.Option("--off", help="tell it nothing any more")] = False,
) -> int:
    """Say where an organization is told; the rest stays."""
    admin = call.admin()
    current = admin.entity("orgs", org)
    if current is None:
        raise CommandFailed(
            f"organization {org} does not exist",
            "webhooks are a part of it",
            f"make it first: tallygate orgs set {org}",
            Exit.REFUSED,
        )
    body = {name: value for name, value in current.items() if name not in ("id", "version")}
    asked = given(url=hook, allowed=allow, events=event, secrets=sign_with)
    body["webhooks"] = None if off else (current.get("webhooks") or {}) | asked
    written = admin.put_over("orgs", org, current, body)
    call.output.result(written, f"{org} is at version {written['version']}")
    return Exit.OK


@command(APP, "secrets", "tallygate webhooks secrets acme")
def secrets(call: Call, org: _OrgId) -> int:
    """Print the secrets of an organization; auditors are told."""
    answer = call.admin().post("/webhooks/secrets", {"org": org})
    told = shown(answer)
    lines = [f"{each['secret']}  generation {each['generation']}" for each in told["secrets"]]
    call.output.result(answer, "\n".join(lines))
    return Exit.OK


@command(
    APP,
    "list",
    "tallygate webhooks list --org acme",
    "tallygate webhooks list --state given_up --since 7d --json",
)
def show(
    call: Call,
    *,
    org: Org = None,
    state: Annotated[
        Literal["delivered", "waiting", "given_up"] | None, typer.Option(help="only of this")
    ] = None,
    since: _Since = None,
    limit: Annotated[
        int | None, typer.Option(parser=positive, metavar="N", help="at most so many (100)")
    ] = None,
) -> int:
    """List messages, newest first; the default is one day.

    Exit code 3 when the search gave up before its end.
    """
    params = given(org=org, state=state, since_s=_whole_seconds(since), limit=limit)
    with call.output.progress("searching the topics of webhooks"):
        found: dict[str, Any] = call.admin().get("/webhooks", params, timeout_s=_TIMEOUT_S)
    call.output.result(found, table(_COLUMNS, map(_row, found["items"])))
    return _how_complete(call, found)


@command(
    APP,
    "redeliver",
    "tallygate webhooks redeliver acme --dry-run",
    "tallygate webhooks redeliver acme msg_0123456789abcdef0123456789abcdef",
    "tallygate webhooks redeliver acme --delivered --since 2h",
)
def redeliver(
    call: Call,
    org: _OrgId,
    message: Annotated[
        str | None, typer.Argument(metavar="[MESSAGE]", help="one, delivered or not")
    ] = None,
    *,
    since: _Since = None,
    delivered: Annotated[
        bool, typer.Option("--delivered", help="also what was delivered, to who lost it")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only say what would be done")] = False,
) -> int:
    """Deliver anew what was given up, under the same ids."""
    body = given(org=org, id=message, since_s=_whole_seconds(since), delivered=delivered or None)
    with call.output.progress("searching the topics of webhooks"):
        answer: dict[str, Any] = call.admin().post(
            "/webhooks/redeliver", body | {"dry_run": dry_run}, timeout_s=_TIMEOUT_S
        )
    words = "would be delivered anew" if dry_run else "are delivered anew"
    call.output.result(answer, f"{answer['count']} messages {words}")
    return _how_complete(call, answer)


def _how_complete(call: Call, found: Mapping[str, Any]) -> int:
    if not found["search"]["gave_up"]:
        return Exit.OK
    gave_up = shown(found["search"]["gave_up"])
    call.output.tell(f"gave up by {gave_up}: name an organization or a shorter time")
    return Exit.PARTIAL


def _whole_seconds(since: float | None) -> int | None:
    return None if since is None else max(1, round(since))


def _row(message: Mapping[str, Any]) -> dict[str, Any]:
    next_at_ms = message["next_at_ms"]
    return {
        **message,
        "happened": _time(message["happened_at_ms"]),
        "next": None if next_at_ms is None else _time(next_at_ms),
    }


def _time(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1_000, UTC).isoformat(timespec="seconds")
