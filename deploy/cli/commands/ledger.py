"""``tallygate ledger verify``: the proof that no cent is missing; exit code 1 when one is."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from deploy.cli.command import Call, command, noun
from deploy.cli.options import finite
from deploy.cli.output import Exit, shown
from deploy.cli.table import Table, table

_COLUMNS = ("org", "what", "field", "ledger", "log", "difference")
_UNBOOKED_COLUMNS = ("org", "req", "finished_ms")
_ANSWER_MARGIN_S = 30.0

APP = noun("ledger", "Balances and their proof.")


@command(APP, "verify", "tallygate ledger verify", "tallygate ledger verify --deadline-s 60 --json")
def verify(
    call: Call,
    *,
    deadline_s: Annotated[
        float, typer.Option(parser=finite, metavar="N", help="how long accounting may catch up")
    ] = 15.0,
) -> int:
    """Compare balances, usage tables and the log.

    Exit code 1 when they differ.
    """
    timeout_s = deadline_s + _ANSWER_MARGIN_S
    with call.output.progress("comparing balances with the log"):
        answer: dict[str, Any] = call.admin().get(
            "/ledger/verify", {"deadline_s": str(deadline_s)}, timeout_s=timeout_s
        )
    call.output.result(answer, *_parts(shown(answer)))
    return Exit.OK if answer["difference"] == 0 else Exit.FAILURE


def _parts(answer: dict[str, Any]) -> list[str | Table]:
    attempts = answer["open_attempts"]
    parts: list[str | Table] = [
        f"organizations {answer['organizations']}",
        f"usage lines {answer['usage_lines']} since {answer['since']}",
        f"open attempts {attempts['reserved']} reserved, {attempts['running']} running",
    ]
    if answer["differences"]:
        parts += ["", table(_COLUMNS, answer["differences"]), ""]
    if answer["settled_not_booked"]:
        parts += [
            "settled, not booked:",
            table(_UNBOOKED_COLUMNS, answer["settled_not_booked"]),
            "",
        ]
    return [*parts, f"difference {answer['difference']}"]
