"""``tallygate reconcile``: which requests do not fit between log, usage lines and ledger."""

from __future__ import annotations

from typing import Any

from deploy.cli.command import Call, Commands, add_command, given
from deploy.cli.output import Exit, table

_COLUMNS = ("kind", "org", "request_id", "what", "detail")
_TIMEOUT_S = 120.0


def register(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands, "reconcile", "name what does not fit; the default is the last hour", reconcile
    )
    parser.add_argument("--from", dest="start", metavar="TIME", help="RFC 3339")
    parser.add_argument("--to", dest="end", metavar="TIME", help="RFC 3339")


def reconcile(call: Call) -> int:
    """Exit code 1 when something does not fit, 3 when there was more than could be read."""
    params = given(**{"from": call.options.start, "to": call.options.end})
    answer: dict[str, Any] = call.admin().get("/reconcile", params, timeout_s=_TIMEOUT_S)
    call.output.result(answer, _text(answer))
    for topic, why in answer["gave_up"].items():
        call.output.tell(f"{topic}: gave up by {why}; ask for a shorter time")
    if answer["difference"]:
        return Exit.FAILURE
    return Exit.PARTIAL if answer["gave_up"] else Exit.OK


def _text(answer: dict[str, Any]) -> str:
    lines = [
        f"from {answer['from']} to {answer['to']}",
        f"outcomes {answer['outcomes']}, usage lines {answer['usage_lines']}",
        f"not booked yet {answer['waiting']}",
    ]
    if answer["findings"]:
        lines += ["", table(_COLUMNS, answer["findings"]), ""]
    return "\n".join([*lines, f"difference {answer['difference']}"])
