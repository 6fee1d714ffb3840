"""``tallygate usage report``: what was booked, by organization, key, model and so on."""

from __future__ import annotations

from typing import Any

from deploy.cli.command import Call, Commands, add_command, add_group, given
from deploy.cli.output import csv_text, table

_MEASURES = (
    "requests",
    "attempts",
    "input_tokens",
    "output_tokens",
    "cached_tokens",
    "reasoning_tokens",
    "unpriced",
    "cost_usd",
)


def register(commands: Commands) -> None:
    """Add the commands."""
    usage = add_group(commands, "usage", "what was used and what it cost")
    parser = add_command(usage, "report", "add up usage; the default is the last 24 hours", report)
    parser.add_argument("--from", dest="start", metavar="TIME", help="RFC 3339; UTC hours")
    parser.add_argument("--to", dest="end", metavar="TIME", help="RFC 3339; UTC hours")
    parser.add_argument("--by", default="org,key,model", help="of org,key,user,model,backend,hour")
    parser.add_argument("--org", help="only this organization")
    parser.add_argument("--format", choices=("table", "csv", "json"), default="table")


def report(call: Call) -> int:
    options = call.options
    params = given(by=options.by, org=options.org)
    params |= given(**{"from": options.start, "to": options.end})
    answer: dict[str, Any] = call.admin().get("/usage", params)
    columns = (*answer["by"], *_MEASURES)
    if options.format == "csv" and not call.output.as_json:
        call.output.result(answer, csv_text(columns, answer["rows"]))
        return 0
    if options.format == "json" or call.output.as_json:
        call.output.line(answer)
        return 0
    rows = list(answer["rows"])
    if rows and answer["total"]:
        rows.append(answer["total"] | {answer["by"][0]: "total"})
    call.output.result(answer, table(columns, rows))
    return 0
