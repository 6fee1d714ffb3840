"""``tallygate ledger verify``: the proof that no cent is missing; exit code 1 when one is."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from deploy.cli.command import Call, command, given, noun
from deploy.cli.options import finite
from deploy.cli.output import Exit, shown
from deploy.cli.scan_progress import scan_progress
from deploy.cli.table import Table, table
from schemas.printable import one_line

_COLUMNS = ("org", "what", "field", "ledger", "log", "difference")
_UNBOOKED_COLUMNS = ("org", "req", "finished_ms")
_ANSWER_MARGIN_S = 700.0
"""The log is read before that; what takes longer is read on by the next verification."""

APP = noun("ledger", "Balances and their proof.")


@command(
    APP,
    "verify",
    "tallygate ledger verify",
    "tallygate ledger verify --deadline-s 60 --json",
    "tallygate ledger verify --from-start",
)
def verify(
    call: Call,
    *,
    deadline_s: Annotated[
        float, typer.Option(parser=finite, metavar="N", help="how long accounting may catch up")
    ] = 15.0,
    from_start: Annotated[
        bool, typer.Option("--from-start", help="read the log anew, not on from the checkpoint")
    ] = False,
) -> int:
    """Compare balances, usage tables and the log.

    The log is read on from where the last verification ended. Exit code 1 when they differ.
    """
    params = given(deadline_s=str(deadline_s), from_start="true" if from_start else None)
    admin = call.admin()
    with call.output.progress_of(
        "comparing balances with the log", lambda: scan_progress(admin, "ledger-verify")
    ):
        answer: dict[str, Any] = admin.get(
            "/ledger/verify", params, timeout_s=deadline_s + _ANSWER_MARGIN_S
        )
    why_anew = answer.get("checkpoint", {}).get("made_anew")
    if why_anew:
        call.output.tell(
            f"the log was read from its beginning; checkpoint: {one_line(str(why_anew))}"
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
