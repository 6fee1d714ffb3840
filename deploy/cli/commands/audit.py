"""``tallygate audit list``: refusals, deferrals and administrative writes, newest first."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from deploy.cli.command import Call, Commands, add_command, add_group, given, positive
from deploy.cli.output import Exit, table
from deploy.cli.timeline import detail_text

_COLUMNS = ("at", "org", "action", "actor", "request", "detail")
_TIMEOUT_S = 40.0


def register(commands: Commands) -> None:
    """Add the commands."""
    audit = add_group(commands, "audit", "who was refused what, and who changed what")
    parser = add_command(audit, "list", "list audit events; the default is the last 24 h", show)
    parser.add_argument("--org", help="only of this organization")
    parser.add_argument("--request-id", metavar="ID", help="only of this request")
    parser.add_argument("--from", dest="start", metavar="TIME", help="RFC 3339")
    parser.add_argument("--to", dest="end", metavar="TIME", help="RFC 3339, exclusive")
    parser.add_argument("--limit", type=positive, metavar="N", help="at most so many (100)")


def show(call: Call) -> int:
    """Exit code 3 when the search gave up before its end."""
    options = call.options
    params = given(org=options.org, request_id=options.request_id)
    params |= given(**{"from": options.start, "to": options.end, "limit": options.limit})
    found: dict[str, Any] = call.admin().get("/audit", params, timeout_s=_TIMEOUT_S)
    call.output.result(found, table(_COLUMNS, map(_row, found["items"])))
    if found["search"]["gave_up"]:
        call.output.tell(f"gave up by {found['search']['gave_up']}: name --org or a shorter time")
        return Exit.PARTIAL
    return Exit.OK


def _row(event: Mapping[str, Any]) -> dict[str, Any]:
    at = datetime.fromtimestamp(event["at_ms"] / 1_000, UTC)
    return {
        "at": at.isoformat(timespec="milliseconds"),
        "org": event["org"],
        "action": event["action"],
        "actor": event["actor"],
        "request": event["request_id"],
        "detail": detail_text(event["detail"]),
    }
