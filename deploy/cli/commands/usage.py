"""``tallygate usage report``: what was booked, by organization, key, model and so on."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import typer

from deploy.cli.command import Call, command, given, noun
from deploy.cli.options import End, Org, Start
from deploy.cli.table import csv_text, table
from schemas.usage import MEASURES

_COLUMNS = (*(name for name in MEASURES if name != "cost_nano_usd"), "cost_usd")
"""The measures, with the cost as people read it, last."""
_SELDOM = MEASURES[MEASURES.index("unpriced") + 1 :]
"""Those that most rows have none of; a table shows them where one has."""

APP = noun("usage", "What was used and what it cost.")


@command(
    APP,
    "report",
    "tallygate usage report --by org,model",
    "tallygate usage report --from 2026-11-01T00:00:00Z --to 2026-12-01T00:00:00Z --format csv",
)
def report(
    call: Call,
    *,
    start: Start = None,
    end: End = None,
    by: Annotated[
        str, typer.Option(metavar="FIELD,...", help="of org,key,user,model,backend,hour")
    ] = "org,key,model",
    org: Org = None,
    form: Annotated[
        Literal["table", "csv", "json"], typer.Option("--format", help="of the output")
    ] = "table",
) -> int:
    """Add up usage by UTC hours; the default is the last 24."""
    params = given(by=by, org=org, **{"from": start, "to": end})
    with call.output.progress("adding up usage"):
        answer: dict[str, Any] = call.admin().get("/usage", params)
    columns = (*answer["by"], *_COLUMNS)
    if form == "csv" and not call.output.as_json:
        call.output.result(answer, csv_text(columns, answer["rows"]))
        return 0
    if form == "json" or call.output.as_json:
        call.output.line(answer)
        return 0
    rows = list(answer["rows"])
    if rows and answer["total"]:
        rows.append(answer["total"] | {answer["by"][0]: "total"})
    seen = [name for name in columns if name not in _SELDOM or any(row.get(name) for row in rows)]
    call.output.result(answer, table(seen, rows))
    return 0
