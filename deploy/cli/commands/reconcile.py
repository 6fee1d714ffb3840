"""``tallygate reconcile``: which requests do not fit between log, usage lines and ledger."""

from __future__ import annotations

from typing import Any

from deploy.cli.command import Call, command, given, verbs
from deploy.cli.options import End, Start
from deploy.cli.output import Exit, shown
from deploy.cli.table import Table, table

_COLUMNS = ("kind", "org", "request_id", "what", "detail")
_TIMEOUT_S = 120.0

APP = verbs()


@command(
    APP,
    "reconcile",
    "tallygate reconcile",
    "tallygate reconcile --from 2026-11-25T20:00:00Z --to 2026-11-25T21:00:00Z",
)
def reconcile(call: Call, *, start: Start = None, end: End = None) -> int:
    """Name what does not fit between log, usage lines and ledger.

    The default is the last hour.
    Exit code 1 when something does not fit, 3 when there was more than could be read.
    """
    params = given(**{"from": start, "to": end})
    with call.output.progress("comparing outcomes, usage lines and balances"):
        answer: dict[str, Any] = call.admin().get("/reconcile", params, timeout_s=_TIMEOUT_S)
    call.output.result(answer, *_parts(shown(answer)))
    for topic, why in shown(answer["gave_up"]).items():
        call.output.tell(f"{topic}: gave up by {why}; ask for a shorter time")
    if answer["difference"]:
        return Exit.FAILURE
    return Exit.PARTIAL if answer["gave_up"] else Exit.OK


def _parts(answer: dict[str, Any]) -> list[str | Table]:
    parts: list[str | Table] = [
        f"from {answer['from']} to {answer['to']}",
        f"outcomes {answer['outcomes']}, usage lines {answer['usage_lines']}",
        f"not booked yet {answer['waiting']}",
    ]
    if answer["findings"]:
        parts += ["", table(_COLUMNS, answer["findings"]), ""]
    return [*parts, f"difference {answer['difference']}"]
