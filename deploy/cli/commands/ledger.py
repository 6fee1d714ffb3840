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
_REQUEST_COLUMNS = ("what", "field", "because", "request")
_ROW_COLUMNS = ("hour", "row", "ledger", "log")
_COMPARED = ("equal", "differs")
_UNBOOKED_COLUMNS = ("org", "req", "finished_ms")
_ANSWER_MARGIN_S = 700.0
"""The log is read before that; what takes longer is read on by the next verification."""

APP = noun("ledger", "Balances and their proof.")


@command(
    APP,
    "verify",
    "tallygate ledger verify",
    "tallygate ledger verify --deadline-s 60 --json",
    "tallygate ledger verify --full",
)
def verify(
    call: Call,
    *,
    deadline_s: Annotated[
        float, typer.Option(parser=finite, metavar="N", help="how long accounting may catch up")
    ] = 15.0,
    full: Annotated[
        bool, typer.Option("--full", help="read the whole log anew, not on from the checkpoint")
    ] = False,
) -> int:
    """Compare balances, usage tables and the log.

    The log is read on from where the last verification ended. Exit code 1 when they differ, 3 when a shard of
    the ledger cannot be compared now. The control plane does the same every minute, and alarms.
    """
    params = given(deadline_s=str(deadline_s), full="true" if full else None)
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
    if answer["difference"]:
        return Exit.FAILURE
    return Exit.OK if all(shard["state"] == "equal" for shard in answer["shards"]) else Exit.PARTIAL


def _parts(answer: dict[str, Any]) -> list[str | Table]:
    attempts = answer["open_attempts"]
    parts: list[str | Table] = [
        f"organizations {answer['organizations']}",
        f"usage lines {answer['usage_lines']} since {answer['since']}",
        f"open attempts {attempts['reserved']} reserved, {attempts['running']} running",
    ]
    if answer["differences"]:
        parts += [
            "",
            table(_COLUMNS, answer["differences"]),
            "",
            *_explained(answer["differences"]),
        ]
    if answer["settled_not_booked"]:
        parts += [
            "settled, not booked:",
            table(_UNBOOKED_COLUMNS, answer["settled_not_booked"]),
            "",
        ]
    parts += [
        f"shard {shard['shard']} is {shard['state']}: {shard['why']}"
        for shard in answer["shards"]
        if shard["state"] not in _COMPARED
    ]
    return [*parts, f"difference {answer['difference']}"]


def _explained(differences: list[dict[str, Any]]) -> list[str | Table]:
    """Which requests explain them, and which rows of an hour differ."""
    requests = [
        {
            "what": each["what"],
            "field": each["field"],
            "because": found["because"],
            "request": request,
        }
        for each in differences
        if (found := each.get("explanation"))
        for request in found["requests"]
    ]
    rows = {
        (each["what"], *row)
        for each in differences
        for row in each.get("explanation", {}).get("rows", ())
    }
    parts: list[str | Table] = []
    if requests:
        parts += ["requests that explain them:", table(_REQUEST_COLUMNS, requests), ""]
    if rows:
        shown_rows = [dict(zip(_ROW_COLUMNS, row, strict=True)) for row in sorted(rows)]
        parts += ["rows that differ:", table(_ROW_COLUMNS, shown_rows), ""]
    return parts
