"""``tallygate audit list``: refusals, deferrals and administrative writes, newest first."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from deploy.cli.command import Call, command, given, noun
from deploy.cli.options import End, Org, Start, positive
from deploy.cli.output import Exit, shown
from deploy.cli.table import table

_COLUMNS = ("at", "org", "action", "actor", "request", "detail")
_TIMEOUT_S = 40.0

APP = noun("audit", "Who was refused what, and who changed what.")


@command(
    APP,
    "list",
    "tallygate audit list --org acme --from 2026-11-25T00:00:00Z",
    "tallygate audit list --request-id 0190a7c2-6f4e-7cc1-9a51-3f5d2a1b4c6d --json",
)
def show(
    call: Call,
    *,
    org: Org = None,
    request_id: Annotated[
        str | None, typer.Option(metavar="ID", help="only of this request")
    ] = None,
    start: Start = None,
    end: End = None,
    limit: Annotated[
        int | None, typer.Option(parser=positive, metavar="N", help="at most so many (100)")
    ] = None,
) -> int:
    """List audit events; the default is the last 24 hours.

    Exit code 3 when the search gave up before its end.
    """
    params = given(org=org, request_id=request_id, **{"from": start, "to": end, "limit": limit})
    with call.output.progress("searching the audit log"):
        found: dict[str, Any] = call.admin().get("/audit", params, timeout_s=_TIMEOUT_S)
    call.output.result(found, table(_COLUMNS, map(_row, found["items"])))
    if found["search"]["gave_up"]:
        gave_up = shown(found["search"]["gave_up"])
        call.output.tell(f"gave up by {gave_up}: name --org or a shorter time")
        return Exit.PARTIAL
    return Exit.OK


def _row(event: Mapping[str, Any]) -> dict[str, Any]:
    from deploy.cli.timeline import detail_text  # noqa: PLC0415 - help needs no events

    at = datetime.fromtimestamp(event["at_ms"] / 1_000, UTC)
    return {
        "at": at.isoformat(timespec="milliseconds"),
        "org": event["org"],
        "action": event["action"],
        "actor": event["actor"],
        "request": event["request_id"],
        "detail": detail_text(event["detail"]),
    }
